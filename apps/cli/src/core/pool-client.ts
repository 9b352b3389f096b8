import { existsSync } from "node:fs";
import {
  createClient,
  formatAddress,
  openMembership,
  parseAddress,
  readSignIn,
  type ManagerAddress,
  type ManagerClient,
  type OpenMembership,
  type SignInFile,
} from "@farpool/client-api";
import { ROUTES } from "@farpool/contract";
import {
  clientKeyFile,
  clientMembershipFile,
  managerSocket,
  poolFolders,
  serverKeyFile,
  serverMembershipFile,
  signInFile,
  type PoolFolders,
} from "@farpool/layout";
import { tell } from "./output.ts";

/** The way to the pool that commands of this account use, and by what right. */
export interface PoolWay {
  readonly address: ManagerAddress;
  /** Undefined: the pool is this machine's own, or was named. */
  readonly membership: OpenMembership | undefined;
}

/**
 * `FARPOOL_MANAGER` names a pool; else it is the one that this machine has joined as a client, its own, the one that somebody
 * has signed in to, or the one that it serves.
 */
export function poolWay(): PoolWay {
  const named = variable("FARPOOL_MANAGER");
  if (named !== undefined) {
    const files = { tokenFile: variable("FARPOOL_TOKEN_FILE"), authorityFile: variable("FARPOOL_CA_FILE") };
    return { address: parseAddress(named, files), membership: undefined };
  }
  const folders = poolFolders();
  const signedIn = currentSignIn(folders);
  const token = signedIn?.token ?? null;
  const client = openClientMembership(folders);
  if (client !== undefined)
    return { address: client.address(signedIn?.manager === null ? token : null), membership: client };
  const path = managerSocket(folders);
  const ownSocket: ManagerAddress = { kind: "unix", path, token: signedIn?.manager === null ? token : null };
  if (existsSync(path)) return { address: ownSocket, membership: undefined };
  if (signedIn !== undefined && signedIn.manager !== null)
    return { address: { kind: "https", ...signedIn.manager, token }, membership: undefined };
  const server = openServerMembership(folders);
  if (server !== undefined) return { address: server.address(), membership: server };
  return { address: ownSocket, membership: undefined };
}

export function openClientMembership(folders: PoolFolders): OpenMembership | undefined {
  return openMembership({ membership: clientMembershipFile(folders), key: clientKeyFile(folders) });
}

export function openServerMembership(folders: PoolFolders): OpenMembership | undefined {
  return openMembership({ membership: serverMembershipFile(folders), key: serverKeyFile(folders) });
}

/** One that is over is as none. */
export function currentSignIn(folders: PoolFolders): SignInFile | undefined {
  const signedIn = readSignIn(signInFile(folders));
  return signedIn !== undefined && Date.parse(signedIn.expiresAt) > Date.now() ? signedIn : undefined;
}

export function poolAddress(): ManagerAddress {
  return poolWay().address;
}

/** The way, with a certificate that is good: it is renewed when half of its life is over. */
export async function reachPool(): Promise<PoolWay> {
  const way = poolWay();
  await way.membership?.renewIfDue();
  return way;
}

/** Connects to the pool for one piece of work. */
export async function withPool<T>(work: (client: ManagerClient) => Promise<T>): Promise<T> {
  const { address } = await reachPool();
  const client = telling(createClient(address), formatAddress(address));
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** With `-v` each request is a line. */
function telling(client: ManagerClient, place: string): ManagerClient {
  return {
    ...client,
    async call(name, input, options) {
      const { method, path } = ROUTES[name];
      const started = performance.now();
      const took = (): string => `${(performance.now() - started).toFixed(1)} ms`;
      try {
        const answer = await client.call(name, input, options);
        tell(`${method} ${place}${path}: answered in ${took()}`);
        return answer;
      } catch (error) {
        tell(`${method} ${place}${path}: failed after ${took()}`);
        throw error;
      }
    },
  };
}

function variable(name: string): string | undefined {
  const text = process.env[name];
  return text === "" ? undefined : text;
}

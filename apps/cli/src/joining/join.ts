import { sign } from "node:crypto";
import { rmSync } from "node:fs";
import { hostname } from "node:os";
import {
  createClient,
  fetchAuthority,
  formatAddress,
  readMembership,
  toMembership,
  writePrivate,
} from "@farpool/client-api";
import {
  FarpoolError,
  joinProof,
  parseJoinString,
  type MachineLabels,
  type MachineRole,
} from "@farpool/contract";
import {
  clientKeyFile,
  clientMembershipFile,
  createFolders,
  poolFolders,
  serverKeyFile,
  serverMembershipFile,
  signInFile,
  type PoolFolders,
} from "@farpool/layout";
import { printJson, say } from "../core/output.ts";
import { openClientMembership, openServerMembership } from "../core/pool-client.ts";
import { readMachineIdentity } from "./machine-identity.ts";
import { readOrCreateClientKey } from "../run/client-key.ts";

export interface JoinOptions {
  readonly isServer: boolean;
  readonly isClient: boolean;
  readonly name: string | undefined;
  readonly labels: MachineLabels | undefined;
  readonly isJson: boolean;
}

interface RoleFiles {
  readonly membership: string;
  readonly key: string;
}

export function filesOf(role: MachineRole, folders: PoolFolders): RoleFiles {
  return role === "client"
    ? { membership: clientMembershipFile(folders), key: clientKeyFile(folders) }
    : { membership: serverMembershipFile(folders), key: serverKeyFile(folders) };
}

/** Makes this machine a client or a server of the pool that the string names. Its key never leaves it. */
export async function join(options: JoinOptions, text: string): Promise<number> {
  if (text === "")
    throw new FarpoolError("FARPOOL_USAGE", "'farpool join' wants a join string", {
      hint: "'farpool admin tokens create --client' on the manager's machine prints one",
    });
  const invitation = parseJoinString(text);
  const { host, port, role, secret } = invitation;
  requireRole(options, role);
  const folders = poolFolders();
  const files = filesOf(role, folders);
  const before = readMembership(files.membership);
  if (before !== undefined)
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `this machine is a ${role} already, '${before.name}', of the pool at ${formatAddress(before)}`,
      { hint: `'farpool leave --${role}' ends that first` },
    );
  const authority = await fetchAuthority(invitation);
  createFolders(folders);
  const key = readOrCreateClientKey(files.key);
  const client = createClient({ kind: "https", host, port, authority, token: null });
  try {
    const certificate = await client.call("joinPool", {
      body: {
        secret,
        role,
        name: options.name ?? hostname(),
        labels: options.labels ?? {},
        publicKey: key.publicKey,
        proof: sign(null, joinProof(secret), key.privateKey).toString("base64url"),
      },
    });
    const membership = {
      ...toMembership(certificate, { host, port, now: Date.now() }),
      machine: readMachineIdentity(),
    };
    writePrivate(files.membership, membership);
    if (options.isJson) {
      const { machineId, name, poolId, expiresAt } = membership;
      printJson({ machineId, role, name, poolId, manager: formatAddress({ host, port }), expiresAt });
      return 0;
    }
    say(`joined   ${membership.name}, a ${role} of the pool at ${formatAddress({ host, port })}`);
    say(`         its certificate is renewed by itself; state in ${folders.state}`);
    say(role === "client" ? "next     farpool run -n 1 -- PROGRAM" : "next     farpool server");
    return 0;
  } finally {
    client.close();
  }
}

function requireRole({ isServer, isClient }: JoinOptions, role: MachineRole): void {
  if (isServer && isClient)
    throw new FarpoolError("FARPOOL_USAGE", "--server and --client are two joins", {
      hint: "join with one string for each",
    });
  const isWrong = (isServer && role !== "server") || (isClient && role !== "client");
  if (!isWrong) return;
  const wanted = isServer ? "server" : "client";
  throw new FarpoolError("FARPOOL_USAGE", `this string is for a ${role}, not for a ${wanted}`, {
    hint: `'farpool admin tokens create --${wanted}' on the manager's machine makes one`,
  });
}

export interface LeaveOptions {
  readonly isServer: boolean;
  readonly isClient: boolean;
  readonly isForget: boolean;
}

/** The manager trusts this machine no longer, and nothing of the pool stays here. */
export async function leave({ isServer, isClient, isForget }: LeaveOptions): Promise<number> {
  const folders = poolFolders();
  const wanted = (["client", "server"] as const).filter((role) =>
    isServer || isClient ? (role === "server" ? isServer : isClient) : true,
  );
  let left = 0;
  for (const role of wanted) {
    const files = filesOf(role, folders);
    if (isForget) {
      left += forget(role, files, folders) ? 1 : 0;
      continue;
    }
    const membership = role === "client" ? openClientMembership(folders) : openServerMembership(folders);
    if (membership === undefined) continue;
    const { name, host, port } = membership.membership;
    await membership.renewIfDue().catch(() => undefined);
    const client = createClient(membership.address());
    try {
      await client.call("leavePool", {});
    } catch (error) {
      const isRevoked = error instanceof FarpoolError && error.code === "FARPOOL_CERTIFICATE";
      if (!isRevoked) throw withForget(error);
      say(`farpool: ${error.message}`);
    } finally {
      client.close();
    }
    forget(role, files, folders);
    say(`left     ${name} is no ${role} of the pool at ${formatAddress({ host, port })} any more`);
    left += 1;
  }
  if (left > 0) return 0;
  const what = wanted.join(" or ");
  throw new FarpoolError("FARPOOL_CONFLICT", `this machine is no ${what} of another machine's pool`, {
    hint: `its state is looked for in ${folders.state}; FARPOOL_STATE names another folder`,
  });
}

function withForget(error: unknown): unknown {
  if (!(error instanceof FarpoolError)) return error;
  return new FarpoolError(error.code, error.message, {
    hint: "'farpool leave --forget' only removes what is here; an administrator then removes the machine from the pool",
    cause: error,
  });
}

/** True when there was something to forget. */
export function forget(role: MachineRole, files: RoleFiles, folders: PoolFolders): boolean {
  let had = false;
  try {
    had = readMembership(files.membership) !== undefined;
  } catch {
    // What cannot be read is forgotten all the same.
    had = true;
  }
  if (!had) return false;
  rmSync(files.membership, { force: true });
  rmSync(files.key, { force: true });
  if (role === "client") rmSync(signInFile(folders), { force: true });
  return true;
}

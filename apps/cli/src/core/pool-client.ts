import {
  createClient,
  formatAddress,
  parseAddress,
  type ManagerAddress,
  type ManagerClient,
} from "@farpool/client-api";
import { ROUTES } from "@farpool/contract";
import { managerSocket, poolFolders } from "@farpool/layout";
import { tell } from "./output.ts";

/** `FARPOOL_MANAGER` names another machine's pool; without it the pool is this machine's. */
export function poolAddress(): ManagerAddress {
  const named = process.env["FARPOOL_MANAGER"];
  if (named !== undefined && named !== "") return parseAddress(named, process.env["FARPOOL_TOKEN_FILE"]);
  return { kind: "unix", path: managerSocket(poolFolders()) };
}

/** Connects to the pool for one piece of work. */
export async function withPool<T>(work: (client: ManagerClient) => Promise<T>): Promise<T> {
  const address = poolAddress();
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

import { createClient, parseAddress, type ManagerAddress, type ManagerClient } from "@farpool/client-api";
import { managerSocket, poolFolders } from "@farpool/layout";

/** `FARPOOL_MANAGER` names another machine's pool; without it the pool is this machine's. */
export function poolAddress(): ManagerAddress {
  const named = process.env["FARPOOL_MANAGER"];
  if (named !== undefined && named !== "") return parseAddress(named, process.env["FARPOOL_TOKEN_FILE"]);
  return { kind: "unix", path: managerSocket(poolFolders()) };
}

/** Connects to the pool for one piece of work. */
export async function withPool<T>(work: (client: ManagerClient) => Promise<T>): Promise<T> {
  const client = createClient(poolAddress());
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

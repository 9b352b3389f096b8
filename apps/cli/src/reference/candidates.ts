import { createClient, type ManagerClient } from "@farpool/client-api";
import { FarpoolError } from "@farpool/contract";
import { print } from "../core/output.ts";
import { poolAddress } from "../core/pool-client.ts";

/** Who pressed the Tab key waits; a pool that is slower than this has no candidates. */
const TIMEOUT_MS = 1_500;
const OPTIONS = { timeoutMs: TIMEOUT_MS } as const;

type Candidate = readonly [value: string, description: string];

const SOURCES: Readonly<Record<string, (client: ManagerClient) => Promise<Candidate[]>>> = {
  async sessions(client) {
    const { sessions } = await client.call("listSessions", { query: {} }, OPTIONS);
    return sessions.map(({ id, state, name, client: { user, program } }) => [
      id,
      [state, name ?? program ?? "", user].filter((word) => word !== "").join(" "),
    ]);
  },
  async servers(client) {
    const { servers } = await client.call("listServers", {}, OPTIONS);
    return servers.map(({ name, state, gpuCount }) => [name, `${state}, ${gpuCount} GPUs`]);
  },
  async gpus(client) {
    const { gpus } = await client.call("listGpus", {}, OPTIONS);
    return gpus.map(({ uuid, name, serverName }) => [uuid, `${name} on ${serverName}`]);
  },
  async clients(client) {
    const { clients } = await client.call("listClients", {}, OPTIONS);
    return clients.map(({ name, user }) => [name, user]);
  },
};

/** Lines of value, tab, description, for a shell's completion: no sentence disturbs the line that is being typed. */
export async function candidates(kind: string): Promise<number> {
  const source = SOURCES[kind];
  if (source === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", `there are no candidates of kind '${kind}'`, {
      hint: `kinds are ${Object.keys(SOURCES).join(", ")}`,
    });
  }
  let client: ManagerClient | undefined;
  try {
    client = createClient(poolAddress());
    const found = await source(client);
    const unique = new Map(found);
    if (unique.size > 0) print([...unique].map((pair) => pair.join("\t")).join("\n"));
    return 0;
  } catch (error) {
    return error instanceof FarpoolError ? error.exitCode : 70;
  } finally {
    client?.close();
  }
}

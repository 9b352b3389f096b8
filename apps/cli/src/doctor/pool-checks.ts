import { connect } from "node:net";
import { createClient, formatAddress, type ManagerAddress } from "@farpool/client-api";
import { FarpoolError, VERSION, type Endpoint, type Server } from "@farpool/contract";
import { counted } from "../core/output.ts";
import { checkExpiries, poolExpiries } from "../health/expiries.ts";
import { fail, pass, warning, type Check } from "./check.ts";

const CONNECT_TIMEOUT_MS = 3_000;

/** The way to the manager, and from here to every server's data port. */
export async function checkPool(address: ManagerAddress): Promise<Check[]> {
  const client = createClient(address);
  try {
    const pool = await client.call("status", {}, { timeoutMs: 5_000 });
    const { servers } = await client.call("listServers", {}, { timeoutMs: 5_000 });
    const checks = [
      pass(
        "pool",
        `${formatAddress(address)} answers: ${counted(pool.servers.online, "server")} online, ${counted(pool.gpus.total, "GPU")}`,
      ),
    ];
    checks.push(
      pool.version === VERSION
        ? pass("version", `manager and this command are both ${VERSION}`)
        : warning(
            "version",
            `the manager is ${pool.version}, this command is ${VERSION}`,
            "upgrade the manager first, then servers, then clients",
          ),
    );
    checks.push(...checkExpiries(await poolExpiries(client), Date.now()));
    for (const server of servers) checks.push(...(await checkServer(server)));
    return checks;
  } catch (error) {
    const known = error instanceof FarpoolError ? error : undefined;
    return [
      fail(
        "pool",
        error instanceof Error ? error.message : String(error),
        known?.hint ?? "'farpool up' starts a pool on this machine",
      ),
    ];
  } finally {
    client.close();
  }
}

async function checkServer(server: Server): Promise<Check[]> {
  const name = `server ${server.name}`;
  if (server.state !== "online") {
    return [
      warning(
        name,
        `is ${server.state}, heard of last at ${server.lastSeenAt}`,
        "look at the agent's and the acceptor's log on that server",
      ),
    ];
  }
  const endpoints = await Promise.all(server.endpoints.map((endpoint) => checkEndpoint(name, endpoint)));
  return [...endpoints, ...checkSandbox(name, server.workerSandbox)];
}

/** What keeps a hostile program's calls from the rest of the server; nothing where the server does not tell. */
export function checkSandbox(name: string, layers: Server["workerSandbox"]): Check[] {
  if (layers === null) return [];
  if (layers.length === 0)
    return [
      warning(
        name,
        "its workers run without a sandbox",
        "start its acceptor without '--worker-sandbox off' and without FARPOOL_WORKER_SANDBOX=off",
      ),
    ];
  const missing = ["landlock", "seccomp"].filter((layer) => layers.every((each) => !each.startsWith(layer)));
  const sentence = `sandbox of its workers: ${layers.join(", ")}`;
  if (missing.length === 0) return [pass(name, sentence)];
  return [
    warning(
      name,
      `${sentence}; not ${missing.join(", ")}`,
      "its kernel lacks that: Linux from 5.13 on has both, if they are switched on (boot option lsm=landlock,…)",
    ),
  ];
}

async function checkEndpoint(name: string, endpoint: Endpoint): Promise<Check> {
  const place = endpoint.kind === "unix" ? `unix ${endpoint.path}` : `tcp ${endpoint.host}:${endpoint.port}`;
  const problem = await tryConnect(endpoint);
  if (problem === undefined) return pass(name, `the data port answers at ${place}`);
  if (endpoint.kind === "unix") {
    return warning(
      name,
      `${place}: ${problem}`,
      "only programs on the server's own machine use it; others go over TCP",
    );
  }
  return fail(
    name,
    `${place}: ${problem}`,
    `open TCP port ${endpoint.port} from this machine to ${endpoint.host}`,
  );
}

export function tryConnect(endpoint: Endpoint): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(
      endpoint.kind === "unix" ? { path: endpoint.path } : { host: endpoint.host, port: endpoint.port },
    );
    const finish = (problem: string | undefined): void => {
      socket.destroy();
      resolve(problem);
    };
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => finish(`no answer within ${CONNECT_TIMEOUT_MS / 1_000} s`));
    socket.once("connect", () => finish(undefined));
    socket.once("error", (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  });
}

import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ManagerClient, createClient } from "@farpool/client-api";
import type { Gpu } from "@farpool/contract";
import { freePort } from "../../../scripts/free-port.ts";
import { farpool } from "../../../scripts/repository.ts";
import { type Balancer, startBalancer } from "./balancer.ts";
import { type DebianPostgres, startDebianPostgres } from "./debian-postgres.ts";
import { type Machine, createMachine } from "./machine.ts";
import { isAlive, processesMentioning } from "./processes.ts";
import { type RunningProgram, start, waitFor } from "./program.ts";

/** Two managers on the PostgreSQL that the first one embeds, or on one of Debian's that is neither's. */
export const databases = ["embedded", "debian"] as const;
export type DatabaseKind = (typeof databases)[number];

/** A machine with a manager; `farpool up` makes it a server, too. */
export interface ManagerMachine extends Machine {
  readonly up: RunningProgram;
  readonly port: number;
  readonly client: ManagerClient;
  /** What it was started with, so that it can be started again. */
  readonly words: readonly string[];
  readonly database: string | undefined;
}

export interface ServerMachine extends Machine {
  readonly serving: RunningProgram;
}

/** A pool of several machines, each with files, sockets, GPUs and a name of its own. */
export interface Machines {
  readonly folder: string;
  readonly managers: readonly [ManagerMachine, ManagerMachine];
  readonly servers: ReadonlyMap<string, ServerMachine>;
  readonly clients: ReadonlyMap<string, Machine>;
  /** Where an administrator sits: the first manager's machine. */
  readonly admin: ManagerMachine;
  readonly postgres: DebianPostgres | undefined;
  /** Of the servers that sessions are placed on. */
  gpus(): Promise<readonly Gpu[]>;
  /** Starts a manager's machine again, all of which was killed. */
  restart(manager: ManagerMachine): Promise<ManagerMachine>;
  /** Fails unless all memory is free, no session lives, and no worker is left. */
  expectNothingHeld(timeoutMs?: number): Promise<void>;
  /** Ends the pool and fails when one of its processes outlives it. */
  stop(): Promise<void>;
}

export interface MachinesWish {
  readonly database: DatabaseKind;
  /** GPUs and the memory of each, by the server's name. */
  readonly servers: Readonly<
    Record<string, { readonly gpus: number; readonly memory: string; readonly words?: readonly string[] }>
  >;
  readonly clients: readonly string[];
  /** For `farpool up`. */
  readonly words?: readonly string[];
}

export async function startMachines(wish: MachinesWish): Promise<Machines> {
  const folder = mkdtempSync(join(tmpdir(), "farpool-pool-"));
  chmodSync(folder, 0o711);
  const stopping: Array<() => Promise<void>> = [];
  const stop = async (): Promise<void> => {
    for (const step of stopping.splice(0).toReversed()) await step();
    await expectNoProcesses(folder);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const postgres = wish.database === "debian" ? await startDebianPostgres() : undefined;
    if (postgres !== undefined) stopping.push(() => postgres.stop());
    const balancer = await startBalancer();
    stopping.push(() => balancer.close());
    const words = wish.words ?? [];
    const manage = async (machine: Machine, database: string | undefined): Promise<ManagerMachine> => {
      const manager = await startManager(machine, { words, database, port: await freePort() });
      stopping.push(() => endManager(manager));
      return manager;
    };
    const memory = { FARPOOL_SIMGPU_MEMORY: "512MiB" };
    const first = await manage(createMachine(folder, "head-1", memory), postgres?.url);
    const url = postgres?.url ?? embeddedUrl(first);
    const second = await manage(createMachine(folder, "head-2", memory), url);
    const managers = [first, second] as const;
    balancer.targets.push(...managers.map(({ port }) => port));
    const [admin] = managers;
    // What they offer themselves is not what tests ask for.
    const { servers: own } = await admin.client.call("listServers", {});
    for (const { id } of own)
      await admin.output("admin", "servers", "drain", id, "--reason", "for managers only");
    const servers = new Map<string, ServerMachine>();
    for (const [name, server] of Object.entries(wish.servers)) {
      const machine = createMachine(folder, name, {
        FARPOOL_SIMGPU_MEMORY: server.memory,
        FARPOOL_SIMGPU_NAME_SUFFIX: ` ${server.memory}`,
      });
      await joinPool(machine, "server", { admin, balancer });
      const offer = ["--simulated", String(server.gpus), "--listen", "127.0.0.1", "--data-port", "0"];
      const serving = machine.launch(["server", ...offer, ...(server.words ?? [])]);
      stopping.push(() => end(serving));
      servers.set(name, { ...machine, serving });
    }
    for (const { serving } of servers.values()) await serving.until("ready ");
    const clients = new Map<string, Machine>();
    for (const name of wish.clients) {
      // On another machine there would be no socket of the server.
      const machine = createMachine(folder, name, { FARPOOL_TRANSPORT: "tcp" });
      await joinPool(machine, "client", { admin, balancer });
      clients.set(name, machine);
    }
    const gpus = async (): Promise<readonly Gpu[]> => {
      const answer = await admin.client.call("listGpus", {});
      return answer.gpus.filter(({ serverName }) => servers.has(serverName));
    };
    const restart = async (manager: ManagerMachine): Promise<ManagerMachine> => {
      manager.client.close();
      const again = await startManager(manager, manager);
      stopping.push(() => endManager(again));
      return again;
    };
    const pool = { folder, managers, servers, clients, admin, postgres, gpus, restart, stop };
    return { ...pool, expectNothingHeld: (timeoutMs) => expectNothingHeld(pool, timeoutMs) };
  } catch (error) {
    const logs = logsOf(folder);
    await stop().catch(() => undefined);
    throw new Error(`the pool did not start\n${logs}`, { cause: error });
  }
}

/** One of several by its name; a test that misspells it is wrong. */
export function named<T>(machines: ReadonlyMap<string, T>, name: string): T {
  const machine = machines.get(name);
  if (machine === undefined) throw new Error(`there is no machine ${name}`);
  return machine;
}

async function startManager(
  machine: Machine,
  { words, database, port }: Pick<ManagerMachine, "words" | "database" | "port">,
): Promise<ManagerMachine> {
  const environment = {
    ...machine.environment,
    ...(database !== undefined && { FARPOOL_DATABASE: database }),
  };
  const ports = ["--port", String(port), "--data-port", "0", "--metrics-port", "0"];
  const command = [...hostNamed(machine.name), farpool, "up", "--simulated", "1", ...ports, ...words];
  const up = start(command, { environment });
  const client = createClient({ kind: "unix", path: join(machine.folder, "state/run/manager.sock") });
  const manager = { ...machine, up, port, client, words, database };
  try {
    await up.until("ready ");
  } catch (error) {
    await endManager(manager);
    throw error;
  }
  return manager;
}

async function endManager({ client, up }: ManagerMachine): Promise<void> {
  client.close();
  await end(up);
}

/** The host's name is the kernel's, so whoever may gets one of its own: else both managers have the same. */
function hostNamed(name: string): readonly string[] {
  if (spawnSync("/usr/bin/unshare", ["--uts", "true"], { stdio: "ignore" }).status !== 0) return [];
  return ["/usr/bin/unshare", "--uts", "sh", "-c", `hostname ${name}; exec "$@"`, "sh"];
}

/** Another manager on this machine may use it as any other PostgreSQL. */
function embeddedUrl({ folder }: Machine): string {
  const postgres = join(folder, "state/postgres");
  const password = readFileSync(join(postgres, "password"), "utf8").trim();
  return `postgres://farpool:${encodeURIComponent(password)}@localhost/postgres?host=${encodeURIComponent(postgres)}`;
}

/** By one string, as a person would; it names the address that leads to whichever manager is there. */
async function joinPool(
  machine: Machine,
  role: "server" | "client",
  { admin, balancer }: { readonly admin: Machine; readonly balancer: Pick<Balancer, "port"> },
): Promise<void> {
  const url = `https://127.0.0.1:${balancer.port}`;
  const string = await admin.output("admin", "tokens", "create", `--${role}`, "--url", url);
  await machine.output("join", string.trim(), "--name", machine.name);
}

async function expectNothingHeld(
  { admin, gpus, folder }: Pick<Machines, "admin" | "gpus" | "folder">,
  timeoutMs?: number,
): Promise<void> {
  await waitFor(
    "all GPU memory free and no session left",
    async () => {
      const { sessions } = await admin.client.call("listSessions", { query: {} });
      const all = await gpus();
      const areFree = all.every(
        (gpu) => gpu.wholeFree && gpu.sessions.length === 0 && gpu.memoryUsedBytes === 0,
      );
      return areFree && sessions.length === 0 ? true : undefined;
    },
    timeoutMs,
  );
  const workers = processesMentioning(folder).filter(({ command }) =>
    command.endsWith("farpool-worker serve"),
  );
  if (workers.length > 0) throw new Error(`workers are left: ${JSON.stringify(workers)}`);
}

async function end(program: RunningProgram): Promise<void> {
  if (isAlive(program.pid)) program.child.kill("SIGTERM");
  await program.ended;
}

async function expectNoProcesses(folder: string): Promise<void> {
  const left = (): ReturnType<typeof processesMentioning> => processesMentioning(folder);
  try {
    await waitFor(
      "the end of all processes of the pool",
      () => (left().length === 0 ? true : undefined),
      15_000,
    );
  } catch (error) {
    const found = left();
    for (const { pid } of found) process.kill(pid, "SIGKILL");
    throw new Error(`left by the pool: ${JSON.stringify(found, null, 2)}`, { cause: error });
  }
}

function logsOf(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".log"))
    .map((file) => `--- ${file}\n${readFileSync(join(folder, file), "utf8").slice(-2_000)}`)
    .join("\n");
}

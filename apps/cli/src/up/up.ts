import { existsSync } from "node:fs";
import { createClient, formatAddress } from "@farpool/client-api";
import { DEFAULT_DATA_PORT, DEFAULT_MANAGER_PORT, FarpoolError } from "@farpool/contract";
import {
  acceptorControlSocket,
  createFolders,
  findInstallation,
  managerSocket,
  poolFolders,
  type Installation,
  type PoolFolders,
} from "@farpool/layout";
import { say } from "../core/output.ts";
import { startInBackground } from "./background.ts";
import { down } from "./down.ts";
import { chooseDriver } from "./driver.ts";
import { keepSockets, type KeptSockets } from "./kept-sockets.ts";
import { endLeftovers } from "./leftovers.ts";
import { poolParts } from "./parts.ts";
import { bracketed, choosePort } from "./ports.ts";
import { sayInvitations } from "./invitations.ts";
import { claim, ownIdentity, readLiveRecord, removeRecord, type UpRecord } from "./record.ts";
import { runParts, stopRequest } from "./run-parts.ts";

export interface UpOptions {
  readonly gpus: readonly number[] | undefined;
  readonly listen: string | undefined;
  readonly port: number | undefined;
  readonly dataPort: number | undefined;
  readonly labels: ReadonlyArray<readonly [string, string]> | undefined;
  readonly advertise: ReadonlyArray<{ readonly host: string; readonly port: number }> | undefined;
  readonly graceSeconds: number | undefined;
  readonly halfLifeMs: number | undefined;
  readonly reserveAfterMs: number | undefined;
  readonly state: string | undefined;
  readonly database: string | undefined;
  readonly driver: string | undefined;
  readonly simulated: number | undefined;
  readonly isPlainTcp: boolean;
  readonly metricsPort: number | undefined;
  readonly isBackground: boolean;
  readonly isStop: boolean;
}

/** `sun_path` has 108 bytes with its final zero. */
const MAX_SOCKET_PATH = 107;

export async function up(options: UpOptions): Promise<number> {
  if (options.isStop) return down(options.state);
  const folders = poolFolders(process.env, options.state);
  const running = readLiveRecord(folders);
  if (running !== undefined) return alreadyRunning(running, folders, options.isBackground);
  const installation = findInstallation();
  requireParts(installation);
  requireShortPaths(folders);
  if (options.isBackground) return startInBackground(folders);
  if (options.simulated !== undefined) process.env["FARPOOL_SIMGPU_DEVICES"] = String(options.simulated);
  createFolders(folders);
  await endLeftovers(folders);
  const own: UpRecord = {
    ...ownIdentity(),
    isReady: false,
    address: "",
    description: "",
    runtime: folders.runtime,
    processes: [],
  };
  const other = claim(folders, own);
  if (other !== undefined) return alreadyRunning(other, folders, false);
  const stop = stopRequest();
  try {
    return await serve(options, { folders, installation, own, stop });
  } finally {
    removeRecord(folders);
  }
}

interface Claimed {
  readonly folders: PoolFolders;
  readonly installation: Installation;
  /** The record by which this process runs the pool. */
  readonly own: UpRecord;
  readonly stop: AbortSignal;
}

async function serve(options: UpOptions, { folders, installation, own, stop }: Claimed): Promise<number> {
  const listen = options.listen ?? "127.0.0.1";
  const port = await choosePort(listen, options.port ?? DEFAULT_MANAGER_PORT, "--port");
  const metrics = await chooseMetricsPorts(listen, options.metricsPort);
  const sockets = keepSockets(listen, options.dataPort ?? DEFAULT_DATA_PORT, folders);
  try {
    return await serveOn(sockets, { listen, port, metrics }, options, { folders, installation, own, stop });
  } finally {
    sockets.close();
  }
}

interface Places {
  readonly listen: string;
  readonly port: number;
  readonly metrics: { readonly manager: number; readonly agent: number } | undefined;
}

/** The agent's is the next one, as the ports by default are. */
async function chooseMetricsPorts(listen: string, wanted: number | undefined): Promise<Places["metrics"]> {
  if (wanted === undefined) return undefined;
  const manager = await choosePort(listen, wanted, "--metrics-port");
  return { manager, agent: await choosePort(listen, wanted === 0 ? 0 : wanted + 1, "--metrics-port") };
}

// oxlint-disable-next-line eslint/max-params -- what was made, where, how, and for whom
async function serveOn(
  sockets: KeptSockets,
  { listen, port, metrics }: Places,
  options: UpOptions,
  { folders, installation, own, stop }: Claimed,
): Promise<number> {
  const { dataPort } = sockets;
  const choice = await chooseDriver(options, installation);
  say(`offering ${choice.sentence}`);
  say(`driver   ${choice.driver}`);
  const address = formatAddress({ host: listen, port });
  const settings = {
    folders,
    installation,
    listen,
    port,
    dataPort,
    sockets,
    advertise: options.advertise ?? [],
    labels: Object.fromEntries(options.labels ?? []),
    graceSeconds: options.graceSeconds,
    halfLifeMs: options.halfLifeMs,
    reserveAfterMs: options.reserveAfterMs,
    database: options.database ?? databaseVariable(),
    driver: choice.driver,
    gpuIndexes: options.gpus,
    isPlainTcp: options.isPlainTcp,
    metrics,
  };
  const client = createClient({ kind: "unix", path: managerSocket(folders) });
  try {
    return await runParts({
      specs: poolParts(settings),
      ...{ folders, own, stop, what: "pool", address, description: choice.sentence },
      async missing(signal) {
        const status = await client.call("status", {}, { timeoutMs: 2_000, signal }).catch(() => undefined);
        if (status === undefined) return "manager";
        return status.servers.online > 0 ? undefined : "agent";
      },
      async onReady() {
        say(`ready    manager at ${address}, data port ${dataPort}, state in ${folders.state}`);
        if (metrics !== undefined) {
          const at = (metricsPort: number): string => `http://${bracketed(listen)}:${metricsPort}/metrics`;
          say(`metrics  ${at(metrics.manager)} (manager), ${at(metrics.agent)} (agent)`);
        }
        say(`next     farpool run -n 1 -- PROGRAM`);
        await sayInvitations(client, listen);
      },
    });
  } finally {
    client.close();
  }
}

export function requireParts({ acceptor, worker }: Installation): void {
  for (const file of [acceptor, worker]) {
    if (existsSync(file)) continue;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `a part of farpool is missing: ${file}`, {
      hint: "in a checkout, 'npm run build' builds it",
    });
  }
}

/** Said before anything is started: acceptor and database would fail on it again and again. */
export function requireShortPaths(folders: PoolFolders): void {
  const longest = Buffer.byteLength(acceptorControlSocket(folders));
  if (longest <= MAX_SOCKET_PATH) return;
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `the path ${acceptorControlSocket(folders)} has ${longest} bytes: sockets have ${MAX_SOCKET_PATH} at most`,
    { hint: "choose a shorter --state, or a shorter FARPOOL_RUNTIME for the sockets alone" },
  );
}

export function alreadyRunning(record: UpRecord, folders: PoolFolders, isWanted: boolean): number {
  const elsewhere = record.runtime !== "" && record.runtime !== folders.runtime;
  const facts = [
    `already running: pid ${record.pid}`,
    ...(record.address === "" ? [] : [`manager at ${record.address}`]),
    ...(elsewhere ? [`sockets in ${record.runtime}`] : []),
  ];
  const error = new FarpoolError(
    "FARPOOL_ALREADY_RUNNING",
    facts.join(", "),
    elsewhere ? { hint: `FARPOOL_RUNTIME=${record.runtime} uses it; 'farpool down' stops it` } : {},
  );
  // Who wants a pool in the background has one.
  if (!isWanted || elsewhere) throw error;
  say(`farpool: ${error.message}`);
  return 0;
}

function databaseVariable(): string | undefined {
  const url = process.env["FARPOOL_DATABASE"];
  return url === "" ? undefined : url;
}

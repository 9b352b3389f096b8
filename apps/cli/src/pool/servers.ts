import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatBytes,
  formatDuration,
  type Gpu,
  type Server,
  type ServerChange,
} from "@farpool/contract";
import { counted, print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

/** How often it is looked whether a server has become empty. */
const LOOK_MS = 1_000;

export async function servers(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listServers", {}));
  if (isJson) printJson(answer);
  else print(answer.servers.length === 0 ? "no servers" : serverTable(answer.servers));
  return 0;
}

function serverTable(all: readonly Server[]): string {
  const rows = all.map((server) => [
    server.name,
    server.state,
    serviceOf(server),
    String(server.gpuCount),
    String(server.sessions),
    server.driverRelease ?? "-",
    server.driverVersion,
    labelsOf(server),
  ]);
  return table(["SERVER", "STATE", "SERVICE", "GPUS", "SESSIONS", "DRIVER", "CUDA", "LABELS"], rows);
}

function serviceOf({ drain: drained, maintenance: planned }: Server): string {
  if (planned !== null) return `maintenance until ${planned.until}: ${planned.message}`;
  if (drained !== null) return drained.reason === null ? "drained" : `drained: ${drained.reason}`;
  return "open";
}

function labelsOf({ labels }: Server): string {
  const all = Object.entries(labels).map(([name, text]) => `${name}=${text}`);
  return all.length === 0 ? "-" : all.join(" ");
}

export async function show(isJson: boolean, named: string): Promise<number> {
  const { server, gpus } = await withPool(async (client) => {
    const found = await find(client, named);
    const all = (await client.call("listGpus", {})).gpus;
    return { server: found, gpus: all.filter(({ serverId }) => serverId === found.id) };
  });
  if (isJson) printJson({ ...server, gpus });
  else print([serverTable([server]), "", gpuTable(gpus)].join("\n"));
  return 0;
}

/** What nobody can tell of a GPU is a dash. */
function gpuTable(gpus: readonly Gpu[]): string {
  const rows = gpus.map(({ health, ...gpu }) => [
    String(gpu.index),
    gpu.name,
    formatBytes(gpu.memoryTotalBytes),
    gpu.memoryUsedBytes === null ? "-" : formatBytes(gpu.memoryUsedBytes),
    health?.temperatureCelsius?.toString() ?? "-",
    health?.eccUncorrected === null || health?.eccUncorrected === undefined
      ? "-"
      : `${health.eccUncorrected} (${health.eccCorrected ?? "-"} corrected)`,
    health?.xid === null || health?.xid === undefined ? "-" : String(health.xid.code),
    listed(health?.throttling),
    health?.mig ?? "-",
    listed(health?.foreignProcesses?.map(({ pid, program }) => `${program} (${pid})`)),
  ]);
  const header = [
    "GPU",
    "NAME",
    "MEMORY",
    "USED",
    "°C",
    "ECC",
    "XID",
    "THROTTLED",
    "MIG",
    "FOREIGN PROCESSES",
  ];
  return table(header, rows);
}

function listed(texts: readonly string[] | null | undefined): string {
  if (texts === null || texts === undefined) return "-";
  return texts.length === 0 ? "none" : texts.join(", ");
}

interface DrainOptions {
  readonly isJson: boolean;
  readonly reason: string | undefined;
  readonly wait: number | undefined;
}

export async function drain({ isJson, reason, wait }: DrainOptions, named: string): Promise<number> {
  return withPool(async (client) => {
    let server = await change(client, named, { drain: true, reason: reason ?? null });
    if (!isJson) {
      const left =
        server.sessions === 0
          ? "it has none"
          : `${counted(server.sessions, "session goes", "sessions go")} on`;
      say(`the server ${server.name} takes no new sessions; ${left}`);
    }
    if (wait !== undefined) server = await empty(client, server, wait);
    if (isJson) printJson(server);
    else if (wait !== undefined) say(`the server ${server.name} is empty`);
    return 0;
  });
}

async function empty(client: ManagerClient, server: Server, waitMs: number): Promise<Server> {
  const deadline = performance.now() + waitMs;
  for (;;) {
    const now = await find(client, server.id);
    if (now.sessions === 0) return now;
    if (now.drain === null)
      throw new FarpoolError("FARPOOL_CONFLICT", `the server ${now.name} is drained no longer`, {
        hint: null,
      });
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) {
      throw new FarpoolError(
        "FARPOOL_WAIT_OVER",
        `waited ${formatDuration(waitMs)}, the server ${now.name} still has ${counted(now.sessions, "session")}`,
        { hint: "'farpool sessions list' shows them; 'farpool sessions end' ends one" },
      );
    }
    await sleep(Math.min(LOOK_MS, leftMs));
  }
}

export async function undrain(isJson: boolean, named: string): Promise<number> {
  const server = await withPool((client) => change(client, named, { drain: false }));
  if (isJson) printJson(server);
  else say(`the server ${server.name} is ${serviceOf(server)}`);
  return 0;
}

interface MaintenanceOptions {
  readonly isJson: boolean;
  readonly until: string | undefined;
  readonly for: number | undefined;
  readonly message: string | undefined;
  readonly isEnd: boolean;
}

export async function maintenance(options: MaintenanceOptions, named: string): Promise<number> {
  const server = await withPool((client) =>
    change(client, named, { maintenance: options.isEnd ? null : planned(options) }),
  );
  if (options.isJson) printJson(server);
  else
    say(
      `the server ${server.name} is ${server.maintenance === null ? serviceOf(server) : `in ${serviceOf(server)}`}`,
    );
  return 0;
}

function planned({ until, for: lengthMs, message }: MaintenanceOptions): { until: string; message: string } {
  if ((until === undefined) === (lengthMs === undefined) || message === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "maintenance needs --until or --for, and --message", {
      hint: "farpool admin servers maintenance gpu-01 --for 2h --message 'new fans'",
    });
  }
  return { until: until ?? new Date(Date.now() + (lengthMs ?? 0)).toISOString(), message };
}

export async function label(isJson: boolean, named: string, words: readonly string[]): Promise<number> {
  const labels = Object.fromEntries(words.map(parseLabel));
  const server = await withPool((client) => change(client, named, { labels }));
  if (isJson) printJson(server);
  else say(`the server ${server.name} has the labels ${labelsOf(server)}`);
  return 0;
}

function parseLabel(word: string): [string, string | null] {
  const [, name = "", text] = /^([^=]+?)(?:=(.*)|-)$/.exec(word) ?? [];
  if (name !== "") return [name, text ?? null];
  throw new FarpoolError("FARPOOL_USAGE", `'${word}' is neither a label nor takes one away`, {
    hint: "zone=b gives the label zone, zone- takes it away",
  });
}

async function change(client: ManagerClient, named: string, body: Partial<ServerChange>): Promise<Server> {
  const { id } = await find(client, named);
  return client.call("changeServer", { params: { serverId: id }, body });
}

async function find(client: ManagerClient, named: string): Promise<Server> {
  const { servers: all } = await client.call("listServers", {});
  const [server, ...others] = all.filter(({ id, name }) => id === named || name === named);
  if (server === undefined) {
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server '${named}'`, {
      hint: "'farpool admin servers' lists them",
    });
  }
  if (others.length === 0) return server;
  const ids = [server, ...others].map(({ id }) => id).join(", ");
  throw new FarpoolError("FARPOOL_USAGE", `${others.length + 1} servers are called '${named}': ${ids}`, {
    hint: "name the one you mean by its id",
  });
}

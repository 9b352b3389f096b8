import { statfsSync } from "node:fs";
import { createClient, formatAddress, type ManagerClient } from "@farpool/client-api";
import {
  ERRORS,
  FarpoolError,
  formatDuration,
  VERSION,
  type AuthorityState,
  type Server,
  type Session,
} from "@farpool/contract";
import { findInstallation, poolFolders } from "@farpool/layout";
import { counted, print, printJson } from "../core/output.ts";
import { poolAddress } from "../core/pool-client.ts";
import { fail, pass, warning, type Check } from "../doctor/check.ts";
import { checkMachine } from "../doctor/machine-checks.ts";
import { describeRotation } from "../people/authority.ts";
import { checkExpiries, ownExpiries, poolExpiries } from "./expiries.ts";
import { measureThroughput } from "./measure.ts";
import { ownThumbprint } from "./own-client.ts";
import { checkClock, checkDisk, checkGpu, checkServer } from "./server-checks.ts";
import { checkWay } from "./way.ts";

export interface Section {
  readonly title: string;
  readonly checks: readonly Check[];
}

export interface HealthOptions {
  readonly isJson: boolean;
  readonly isMeasured: boolean;
}

const CALL = { timeoutMs: 10_000 } as const;
const LONG_WAIT_MS = 30 * 60_000;
const MARKS: Readonly<Record<Check["result"], string>> = {
  pass: "ok     ",
  warning: "warning",
  fail: "FAIL   ",
};

export async function health({ isJson, isMeasured }: HealthOptions): Promise<number> {
  const sections = await examine(isMeasured);
  const all = sections.flatMap(({ checks }) => checks);
  const count = (result: Check["result"]): number => all.filter((check) => check.result === result).length;
  const result = count("fail") > 0 ? "fail" : count("warning") > 0 ? "warning" : "pass";
  if (isJson) printJson({ result, sections });
  else {
    for (const section of sections) print(`${format(section)}\n`);
    print(
      `${counted(all.length, "check")}: ${counted(count("fail"), "failure")}, ${counted(count("warning"), "warning")}`,
    );
  }
  return result === "fail" ? ERRORS.FARPOOL_UNAVAILABLE.exitCode : 0;
}

function format({ title, checks }: Section): string {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, result, message, hint }) => [
    `  ${MARKS[result]}  ${name.padEnd(width)}  ${message}`,
    ...(hint === undefined ? [] : [`           ${" ".repeat(width)}  hint: ${hint}`]),
  ]);
  return [title, ...lines].join("\n");
}

/** Everything of the pool that can be seen from here. */
export async function examine(isMeasured: boolean): Promise<readonly Section[]> {
  const client = createClient(poolAddress());
  try {
    const pool = await examinePool(client, isMeasured);
    return [...pool, await examineMachine(client)];
  } catch (error) {
    const known = error instanceof FarpoolError ? error : undefined;
    const message = error instanceof Error ? error.message : String(error);
    const hint = known?.hint ?? "'farpool doctor' looks for the cause";
    const machine = { title: "this machine", checks: ownChecks() };
    return [{ title: "pool", checks: [fail("manager", message, hint)] }, machine];
  } finally {
    client.close();
  }
}

async function examinePool(client: ManagerClient, isMeasured: boolean): Promise<Section[]> {
  const [status, { servers }, { gpus }, { sessions }] = await Promise.all([
    client.call("status", {}, CALL),
    client.call("listServers", {}, CALL),
    client.call("listGpus", {}, CALL),
    client.call("listSessions", { query: {} }, CALL),
  ]);
  const now = Date.now();
  const up = formatDuration(now - Date.parse(status.startedAt));
  const manager = `${status.version} at ${formatAddress(poolAddress())}, up ${up}, ${status.database} database`;
  const pool: Section = {
    title: "pool",
    checks: [
      status.version === VERSION
        ? pass("manager", manager)
        : warning(
            "manager",
            `${manager}; this command is ${VERSION}`,
            "upgrade the manager first, then servers, then clients",
          ),
      await checkDatabase(client),
      checkCount(servers),
      checkDrivers(servers),
      checkQueue(sessions, now),
    ],
  };
  const sections = [pool, await examineCertificates(client, now)];
  for (const server of servers) {
    const way = server.state === "lost" ? [] : await checkWay(server);
    const own = gpus.filter(({ serverId }) => serverId === server.id).map(checkGpu);
    const isMeasurable = isMeasured && server.state === "online";
    // One after the other: beside each other they would share this machine's network.
    const figures = isMeasurable ? [await measureThroughput(server.name)] : [];
    const checks = [...checkServer(server, now), ...way, ...figures, ...own];
    sections.push({ title: `server ${server.name}`, checks });
  }
  return sections;
}

async function examineCertificates(client: ManagerClient, now: number): Promise<Section> {
  const [{ rotation }, expiries] = await Promise.all([
    client.call("authorityState", {}, CALL),
    poolExpiries(client),
  ]);
  // Those of workers are said with their servers.
  const shown = expiries.filter(({ name }) => !name.startsWith("workers of "));
  return {
    title: "certificates",
    checks: [...checkExpiries(shown, now), ...(rotation === null ? [] : [checkRotation(rotation, now)])],
  };
}

/** A change that nobody finishes is forgotten. */
const LONG_ROTATION_MS = 45 * 86_400_000;

function checkRotation(rotation: NonNullable<AuthorityState["rotation"]>, now: number): Check {
  const sentence = describeRotation(rotation, now);
  const isForgotten = rotation.phase === "spreading" && now - Date.parse(rotation.since) > LONG_ROTATION_MS;
  return isForgotten
    ? warning("rotation", sentence, "'farpool admin ca finish' lets the new authority take over")
    : pass("rotation", sentence);
}

async function checkDatabase(client: ManagerClient): Promise<Check> {
  try {
    const started = performance.now();
    await client.call("ready", {}, CALL);
    return pass("database", `answers in ${(performance.now() - started).toFixed(1)} ms`);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return fail("database", message, "look at the manager's log, and at PostgreSQL's");
  }
}

function checkCount(servers: readonly Server[]): Check {
  const online = servers.filter(({ state }) => state === "online").length;
  const sentence = `${online} of ${counted(servers.length, "server")} online`;
  if (servers.length === 0)
    return fail("servers", "the pool has none", "'farpool up' on a machine with GPUs makes one");
  if (online === 0) return fail("servers", sentence, "no session can be granted: look at the servers below");
  return online < servers.length
    ? warning("servers", sentence, "look at those below that are not")
    : pass("servers", sentence);
}

function checkDrivers(servers: readonly Server[]): Check {
  const versions = [...new Set(servers.map(({ driverVersion }) => driverVersion))].toSorted();
  const sentence = versions.length === 0 ? "no server tells" : `CUDA ${versions.join(", ")}`;
  return versions.length <= 1
    ? pass("driver", sentence)
    : warning("driver", sentence, "programs meet different drivers on different servers");
}

function checkQueue(sessions: readonly Session[], now: number): Check {
  const waiting = sessions.filter(({ queue }) => queue !== null);
  const [first] = waiting.toSorted((a, b) => Date.parse(a.requestedAt) - Date.parse(b.requestedAt));
  if (first === undefined) return pass("queue", "nobody waits");
  const age = now - Date.parse(first.requestedAt);
  const sentence = `${counted(waiting.length, "session")} in it; ${first.id} has waited ${formatDuration(age)}`;
  return age < LONG_WAIT_MS
    ? pass("queue", sentence)
    : warning(
        "queue",
        sentence,
        `it waits for ${first.queue?.waitsFor ?? "GPUs"}; 'farpool sessions' shows who holds them`,
      );
}

async function examineMachine(client: ManagerClient): Promise<Section> {
  const asked = Date.now();
  const { servers } = await client.call("listServers", {}, CALL);
  // Online servers speak every two seconds: their last word is about now, by the manager's clock.
  const heard = servers
    .filter(({ state }) => state === "online")
    .map(({ lastSeenAt }) => Date.parse(lastSeenAt));
  const clock = heard.length === 0 ? [] : [checkClock(skew(asked, Math.max(...heard)))];
  return {
    title: "this machine",
    checks: [...ownChecks(), ...clock, await checkClient(client)],
  };
}

/** What lies within the servers' rhythm is no difference. */
function skew(now: number, heard: number): number {
  const ahead = now - heard;
  return ahead >= 0 && ahead < 6_000 ? 0 : ahead;
}

function ownChecks(): Check[] {
  const checks = [...checkMachine(findInstallation()), ...checkExpiries(ownExpiries(), Date.now())];
  try {
    const { bavail, blocks, bsize } = statfsSync(poolFolders().state);
    return [...checks, checkDisk("disk", { freeBytes: bavail * bsize, totalBytes: blocks * bsize })];
  } catch {
    // This client has no state yet.
    return checks;
  }
}

async function checkClient(client: ManagerClient): Promise<Check> {
  const own = ownThumbprint();
  if (own === undefined) return pass("client", "has no key yet: the first 'farpool run' makes one");
  try {
    const { clients } = await client.call("listClients", {}, CALL);
    const known = clients.find(({ thumbprint }) => thumbprint === own);
    if (known === undefined) return pass("client", `key ${own}, not seen by this pool yet`);
    if (known.revokedAt === null) return pass("client", `${known.user}@${known.name}, key ${own}`);
    const why = known.revokedReason === null ? "" : `: ${known.revokedReason}`;
    return fail(
      "client",
      `key ${own} was revoked at ${known.revokedAt}${why}`,
      "ask who administers the pool",
    );
  } catch (error) {
    // Who may not list clients is none the worse for it.
    if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_PERMITTED")
      return pass("client", `key ${own}`);
    throw error;
  }
}

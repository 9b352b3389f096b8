import { closeSync, openSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatBytes,
  formatDuration,
  formatGpus,
  type Session,
  type SessionDetail,
} from "@farpool/contract";
import { counted, say } from "../core/output.ts";
import type { SessionHandle } from "./session.ts";

/** How long workers whose clients are gone may take to end by themselves; then the session is ended under them. */
const LAST_WORKERS_MS = 1_500;

/** How long the server may then take to close the session. */
const RELEASE_MS = 10_000;

export function describeGpus(session: Session): string {
  return formatGpus(
    session.gpus.map((gpu) => ({
      name: gpu.name,
      totalBytes: gpu.memoryTotalBytes,
      limitBytes: gpu.memoryLimitBytes,
    })),
  );
}

/** `gpu-01, gpu-02`, in the order in which programs count their GPUs; null: there is none yet. */
export function describeServers({
  serverName,
  furtherServers,
}: Pick<Session, "serverName" | "furtherServers">): string | null {
  if (serverName === null) return null;
  return [serverName, ...furtherServers.map(({ name }) => name)].join(", ");
}

/** `1 × NVIDIA H200, gpu-03, session s-7f3`. */
export function grantedLine(session: Session): string {
  const line = `${describeGpus(session)}, ${describeServers(session) ?? "?"}, session ${session.id}`;
  return session.budgetNotice === null ? line : `${line}; ${session.budgetNotice}`;
}

/** `waiting for 1 GPU, after 1 before it (position 2, about 12 min, session s-7f3)`. */
export function waitingLine({ id, queue }: Session, nowMs: number): string {
  const estimate = formatEstimate(queue?.estimatedAt ?? null, nowMs);
  const place = [
    `position ${queue?.position ?? 1}`,
    ...(estimate === null ? [] : [estimate]),
    `session ${id}`,
  ];
  return `waiting for ${queue?.waitsFor ?? "GPUs"} (${place.join(", ")})`;
}

/** `about 12 min`, `any moment`; null: nobody knows. */
export function formatEstimate(estimatedAt: string | null, nowMs: number): string | null {
  if (estimatedAt === null) return null;
  const minutes = Math.round((Date.parse(estimatedAt) - nowMs) / 60_000);
  return minutes < 1 ? "any moment" : `about ${formatDuration(minutes * 60_000)}`;
}

/** `held 4 min 12 s, GPU busy 61 %`. */
export function heldLine({ usage, gpus }: Session): string {
  const share =
    usage.heldMs === 0 ? 0 : Math.min(1, usage.busyMs / (usage.heldMs * Math.max(1, gpus.length)));
  return `held ${formatDuration(usage.heldMs)}, GPU busy ${Math.round(share * 100)} %`;
}

type Used = Pick<SessionDetail, "usage" | "processes" | "furtherServers">;

/** A program has a worker on each server of its session, and after an exec further ones; a session counts workers. */
function countPrograms({ processes, furtherServers }: Used): number {
  const workers = new Map<number | null, number>();
  for (const { clientPid } of processes) workers.set(clientPid, (workers.get(clientPid) ?? 0) + 1);
  const servers = 1 + furtherServers.length;
  return [...workers.values()].reduce((sum, count) => sum + Math.ceil(count / servers), 0);
}

/** `1 process, 15 calls (13 round trips, 120 answered locally), 8.1 KiB to the server, …`. */
export function usageLine(used: Used): string {
  const { usage } = used;
  return [
    counted(countPrograms(used), "process", "processes"),
    `${counted(usage.calls, "call")} (${counted(usage.roundTrips, "round trip")}, ${usage.localCalls} answered locally)`,
    `${formatBytes(usage.bytesReceived)} to the server`,
    `${formatBytes(usage.bytesSent)} back`,
    `GPU memory ${formatBytes(usage.memoryPeakBytes)} at most`,
  ].join(", ");
}

/**
 * What a session used, once it is over: lets the workers of `connections` end, ends the session, and waits until
 * its server has closed it. By then every worker's last report has arrived.
 */
export async function readLastReports(
  client: ManagerClient,
  handle: SessionHandle,
  connections: number,
): Promise<SessionDetail> {
  const params = { sessionId: handle.session.id };
  const deadline = Date.now() + LAST_WORKERS_MS;
  for (;;) {
    const { processes } = await client.call("showSession", { params });
    if (processes.filter(({ endedAt }) => endedAt !== null).length >= connections || Date.now() >= deadline)
      break;
    await sleep(25);
  }
  await handle.end();
  const patience = AbortSignal.timeout(RELEASE_MS);
  let revision = 0;
  // A server that does not answer any more has said all that it will.
  while (!patience.aborted) {
    const query = { revision };
    const session = await client
      .call("watchSession", { params, query }, { signal: patience, timeoutMs: RELEASE_MS })
      .catch(() => undefined);
    if (session === undefined || session.releasedAt !== null) break;
    revision = session.revision;
  }
  return client.call("showSession", { params });
}

export interface Outcome {
  readonly detail: SessionDetail;
  readonly command: readonly string[];
  readonly exitCode: number;
  readonly durationMs: number;
}

/** Looks before GPUs are asked for. What lies there stays until there is something to write. */
export function requireWritable(file: string): void {
  try {
    closeSync(openSync(file, "a"));
  } catch (cause) {
    const why = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new FarpoolError("FARPOOL_USAGE", `--summary cannot be written to '${file}' (${why})`, {
      hint: "name a file in a folder that exists and that you may write to",
      cause,
    });
  }
}

export function writeSummary(file: string, { detail, command, exitCode, durationMs }: Outcome): void {
  const { usage } = detail;
  const summary = {
    session: detail.id,
    server: describeServers(detail),
    gpu: describeGpus(detail),
    gpus: detail.gpus,
    command,
    exitCode,
    durationMs,
    heldMs: usage.heldMs,
    busyMs: usage.busyMs,
    processes: countPrograms(detail),
    calls: usage.calls,
    roundTrips: usage.roundTrips,
    localCalls: usage.localCalls,
    bytesSent: usage.bytesSent,
    bytesReceived: usage.bytesReceived,
    kernelLaunches: usage.kernelLaunches,
    memoryPeakBytes: usage.memoryPeakBytes,
  };
  try {
    writeFileSync(file, `${JSON.stringify(summary, null, 2)}\n`);
  } catch (error) {
    // The program has ended, and its exit code is what counts.
    say(`farpool: the summary was not written: ${error instanceof Error ? error.message : String(error)}`);
  }
}

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

/** A worker reports once more when its client is gone; that takes a moment to arrive. */
const LAST_REPORTS_MS = 1_500;

export function describeGpus(session: Session): string {
  return formatGpus(
    session.gpus.map((gpu) => ({
      name: gpu.name,
      totalBytes: gpu.memoryTotalBytes,
      limitBytes: gpu.memoryLimitBytes,
    })),
  );
}

/** `1 × NVIDIA H200, gpu-03, session s-7f3`. */
export function grantedLine(session: Session): string {
  return `${describeGpus(session)}, ${session.serverName ?? "?"}, session ${session.id}`;
}

/** `held 4 min 12 s, GPU busy 61 %`. */
export function heldLine({ usage, gpus }: Session): string {
  const share =
    usage.heldMs === 0 ? 0 : Math.min(1, usage.busyMs / (usage.heldMs * Math.max(1, gpus.length)));
  return `held ${formatDuration(usage.heldMs)}, GPU busy ${Math.round(share * 100)} %`;
}

/** `1 process, 15 calls (13 round trips, 120 answered locally), 8.1 KiB to the server, …`. */
export function usageLine({ usage }: Session): string {
  return [
    counted(usage.processes, "process", "processes"),
    `${counted(usage.calls, "call")} (${counted(usage.roundTrips, "round trip")}, ${usage.localCalls} answered locally)`,
    `${formatBytes(usage.bytesReceived)} to the server`,
    `${formatBytes(usage.bytesSent)} back`,
    `GPU memory ${formatBytes(usage.memoryPeakBytes)} at most`,
  ].join(", ");
}

/** Waits until every process that was let in has ended and been reported, but not for long. */
export async function readLastReports(
  client: ManagerClient,
  session: Session,
  processes: number,
): Promise<SessionDetail> {
  const deadline = Date.now() + LAST_REPORTS_MS;
  for (;;) {
    const detail = await client.call("showSession", { params: { sessionId: session.id } });
    const ended = detail.processes.filter((each) => each.endedAt !== null).length;
    if (ended >= processes || Date.now() >= deadline) return detail;
    await sleep(25);
  }
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
    server: detail.serverName,
    gpu: describeGpus(detail),
    gpus: detail.gpus,
    command,
    exitCode,
    durationMs,
    heldMs: usage.heldMs,
    busyMs: usage.busyMs,
    processes: usage.processes,
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

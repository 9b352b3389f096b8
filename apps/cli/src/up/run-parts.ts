import { setTimeout as sleep } from "node:timers/promises";
import { FarpoolError } from "@farpool/contract";
import { logFolder, type PoolFolders } from "@farpool/layout";
import { say } from "../core/output.ts";
import { lastError } from "./last-error.ts";
import { writeRecord, type UpRecord } from "./record.ts";
import { supervise, type Part, type PartSpec } from "./supervisor.ts";

const READY_TIMEOUT_MS = 60_000;

export interface PartsToRun {
  readonly specs: readonly PartSpec[];
  readonly folders: PoolFolders;
  /** The record by which this process runs them. */
  readonly own: UpRecord;
  /** What they are part of, for people: the pool, the server. */
  readonly what: string;
  readonly address: string;
  readonly description: string;
  /** Undefined when programs can run; else the part that this waits for. */
  readonly missing: (signal: AbortSignal) => Promise<string | undefined>;
  /** Says what a person wants to know next. */
  readonly onReady: () => Promise<void>;
  readonly stop: AbortSignal;
}

/** Keeps the parts running until the signal. */
export async function runParts(options: PartsToRun): Promise<number> {
  const { specs, folders, own, address, description, stop } = options;
  const parts: Part[] = [];
  const record = (isReady: boolean): void => {
    const processes = parts.flatMap((part) => part.current() ?? []);
    writeRecord(folders, { ...own, isReady, address, description, processes });
  };
  let isReady = false;
  const observer = {
    started: () => queueMicrotask(() => record(isReady)),
    died(name: string, how: string, delayMs: number) {
      say(
        `farpool: ${name} ended (${how}); it is started again in ${delayMs / 1_000} s, its log is ${logFolder(folders)}/${name}.log`,
      );
    },
  };
  try {
    for (const spec of specs) parts.push(supervise(spec, logFolder(folders), observer));
    if (await becomesReady(options, parts)) {
      isReady = true;
      await options.onReady();
      // Last: who waits for it to start in the background shows what was said until then.
      record(true);
      await aborted(stop);
    }
    return 0;
  } finally {
    // The agent first, so that it does not report the acceptor's end; the manager last, so that it hears of all.
    for (const part of parts.toReversed()) await part.stop();
    if (isReady) say("stopped");
  }
}

/** True when programs can run; false when it was stopped before. */
async function becomesReady(
  { folders, what, missing, stop }: PartsToRun,
  parts: readonly Part[],
): Promise<boolean> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (!stop.aborted) {
    const waitsFor = await missing(stop);
    if (waitsFor === undefined) return true;
    const failing = parts.find((part) => part.starts() > 4);
    if (failing !== undefined || Date.now() > deadline) {
      const name = failing?.name ?? waitsFor;
      const log = `${logFolder(folders)}/${name}.log`;
      const cause = lastError(log);
      const sentence = `the ${what} does not become ready: the ${name} fails${cause === undefined ? "" : `: ${cause}`}`;
      throw new FarpoolError("FARPOOL_UNAVAILABLE", sentence, { hint: `its log is ${log}` });
    }
    await sleep(30, undefined, { signal: stop }).catch(() => undefined);
  }
  return false;
}

export function stopRequest(): AbortSignal {
  const stopping = new AbortController();
  for (const name of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(name, () => stopping.abort());
  return stopping.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  // A listener alone keeps no process alive; the parts do.
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { processInfo } from "../run/processes.ts";
import type { RecordedProcess } from "./record.ts";

const FIRST_DELAY_MS = 100;
/** Programs wait 30 s for a server: parts that are killed a few times in a row must be back within that. */
const LONGEST_DELAY_MS = 2_000;
/** Who ran for so long did not fail at its start: the next delay is the first again. */
const STABLE_MS = 10_000;
const STOP_PATIENCE_MS = 15_000;
const LARGEST_LOG_BYTES = 16 * 1024 * 1024;

export interface PartSpec {
  readonly name: string;
  readonly file: string;
  readonly arguments: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  /** Open files that it gets, from descriptor 3 on. */
  readonly descriptors?: readonly number[];
}

export interface Part {
  readonly name: string;
  /** How often it was started. */
  readonly starts: () => number;
  /** The process that runs now. */
  readonly current: () => RecordedProcess | undefined;
  stop(): Promise<void>;
}

export interface PartObserver {
  started(): void;
  died(name: string, how: string, delayMs: number): void;
}

/** Keeps one process running: started again when it dies, later and later while it keeps dying. */
export function supervise(spec: PartSpec, logFolder: string, observer: PartObserver): Part {
  const stopping = new AbortController();
  let child: ChildProcess | undefined;
  let starts = 0;

  const loop = (async () => {
    let delay = FIRST_DELAY_MS;
    while (!stopping.signal.aborted) {
      const startedAt = Date.now();
      const how = await new Promise<string>((resolve) => {
        starts += 1;
        child = start(spec, join(logFolder, `${spec.name}.log`));
        child.once("error", (error) => resolve(error.message));
        child.once("exit", (code, signal) => resolve(signal === null ? `code ${code}` : `signal ${signal}`));
        observer.started();
      });
      child = undefined;
      if (stopping.signal.aborted) return;
      if (Date.now() - startedAt > STABLE_MS) delay = FIRST_DELAY_MS;
      observer.died(spec.name, how, delay);
      await sleep(delay, undefined, { signal: stopping.signal }).catch(() => undefined);
      delay = Math.min(LONGEST_DELAY_MS, delay * 2);
    }
  })();

  return {
    name: spec.name,
    starts: () => starts,
    current() {
      const info = child?.pid === undefined ? undefined : processInfo(child.pid);
      return info === undefined ? undefined : { name: spec.name, pid: info.pid, startTime: info.startTime };
    },
    async stop() {
      stopping.abort();
      child?.kill("SIGTERM");
      const impatient = setTimeout(() => child?.kill("SIGKILL"), STOP_PATIENCE_MS);
      await loop;
      clearTimeout(impatient);
    },
  };
}

function start(spec: PartSpec, logFile: string): ChildProcess {
  const { file, arguments: words, environment, descriptors = [] } = spec;
  keepSmall(logFile);
  const log = openSync(logFile, "a", 0o600);
  try {
    // A process group of its own: Ctrl-C is for us, and we stop the parts in order.
    return spawn(file, words, {
      env: environment,
      stdio: ["ignore", log, log, ...descriptors],
      detached: true,
    });
  } finally {
    closeSync(log);
  }
}

function keepSmall(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LARGEST_LOG_BYTES) renameSync(logFile, `${logFile}.1`);
}

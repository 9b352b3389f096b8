import { spawn, type ChildProcess } from "node:child_process";
import { constants } from "node:os";
import { endProcesses, signal as send } from "./end-processes.ts";
import { isForeground } from "./processes.ts";
import { spawnError } from "./program.ts";

export interface ChildOptions {
  readonly file: string;
  readonly name: string;
  readonly arguments: readonly string[];
  readonly environment: NodeJS.ProcessEnv;
  /** `NAME=value` that marks all processes of this run. */
  readonly mark: string;
}

/** Signals that a terminal sends to the whole foreground group, so to the child too. */
const TERMINAL_SIGNALS = ["SIGINT", "SIGQUIT", "SIGHUP"] as const;
const PASSED_SIGNALS = ["SIGUSR1", "SIGUSR2"] as const;

/**
 * Runs a program as if we were not there: same terminal, same process group, inherited descriptors.
 * Returns its exit code, 128 + n when a signal ended it. TERM ends the program and all that it started.
 */
export async function runChild(options: ChildOptions): Promise<number> {
  const child = spawn(options.file, options.arguments, {
    argv0: options.name,
    stdio: "inherit",
    env: options.environment,
  });
  const ended = exitCodeOf(child, options.name);
  let ending: Promise<void> | undefined;
  const terminate = (): void => {
    ending ??= endProcesses(child.pid ?? 0, options.mark);
  };
  const handlers = new Map<NodeJS.Signals, () => void>([["SIGTERM", terminate]]);
  for (const name of TERMINAL_SIGNALS) {
    handlers.set(name, () => {
      if (!isForeground()) send(child.pid ?? 0, name);
    });
  }
  for (const name of PASSED_SIGNALS) handlers.set(name, () => send(child.pid ?? 0, name));
  for (const [name, handler] of handlers) process.on(name, handler);
  try {
    const code = await ended;
    await ending;
    return code;
  } finally {
    for (const [name, handler] of handlers) process.off(name, handler);
  }
}

function exitCodeOf(child: ChildProcess, name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => reject(spawnError(name, error)));
    child.once("exit", (code, signal) =>
      resolve(signal === null ? (code ?? 0) : 128 + constants.signals[signal]),
    );
  });
}

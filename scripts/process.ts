import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join, relative } from "node:path";
import { finished } from "node:stream/promises";
import { logs, nodeModulesBin, root } from "./repository.ts";

export interface Command {
  readonly command: string;
  readonly arguments: readonly string[];
  /** Added to this process's environment. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder?: string;
  /** Name of the log file in .cache/logs, without its ending. */
  readonly log: string;
  /** After so long it and everything below it is killed: 30 minutes when not given. */
  readonly limitMs?: number;
}

const defaultLimitMs = 30 * 60_000;

export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly logPath: string;
}

/** A command of ours that ended badly: what it was, how it ended, and the end of what it said. */
export class CommandFailed extends Error {
  readonly outcome: Outcome;

  constructor(command: Command, outcome: Outcome) {
    const said = tail(readFileSync(outcome.logPath, "utf8"), 40);
    const where = relative(root, outcome.logPath);
    super(
      `${command.command} ${command.arguments.join(" ")}\nended with status ${outcome.status}; the end of ${where}:\n${said}`,
    );
    this.name = "CommandFailed";
    this.outcome = outcome;
  }
}

/** Runs a command to its end with both outputs in a log file; its status is the caller's business. */
export async function run(command: Command): Promise<Outcome> {
  const logPath = join(logs, `${command.log}.log`);
  mkdirSync(dirname(logPath), { recursive: true });
  const log = createWriteStream(logPath);
  const child = spawn(command.command, command.arguments, {
    cwd: command.folder ?? root,
    env: {
      ...process.env,
      PATH: `${nodeModulesBin}:${process.env["PATH"] ?? ""}`,
      // The output goes to a file.
      NO_COLOR: "1",
      TERM: "dumb",
      ...command.environment,
    },
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own, so that nothing below it outlives it.
    detached: true,
  });
  const release = endWithUs(child);
  const limitMs = command.limitMs ?? defaultLimitMs;
  const timer = setTimeout(() => {
    log.write(`\nkilled: it ran for more than ${limitMs / 60_000} minutes\n`);
    signalGroup(child, "SIGKILL");
  }, limitMs);
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    log.write(text);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
    log.write(text);
  });
  const status = await new Promise<number>((resolve) => {
    child.on("error", (error) => {
      log.write(`${error.message}\n`);
      resolve(127);
    });
    child.on("close", (code) => resolve(code ?? 1));
  });
  clearTimeout(timer);
  release();
  log.end();
  await finished(log);
  return { status, stdout, stderr, logPath };
}

/** Like `run`, for commands that must succeed. */
export async function runOrFail(command: Command): Promise<Outcome> {
  const outcome = await run(command);
  if (outcome.status !== 0) throw new CommandFailed(command, outcome);
  return outcome;
}

/** Passes SIGTERM and SIGINT of this process on while a child runs, then ends as they would have ended it. */
function endWithUs(child: ChildProcess): () => void {
  const end = (signal: NodeJS.Signals): void => {
    signalGroup(child, signal);
    process.exit(128 + constants.signals[signal]);
  };
  process.once("SIGTERM", end).once("SIGINT", end);
  return () => process.off("SIGTERM", end).off("SIGINT", end);
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has gone.
  }
}

export function tail(text: string, lines: number): string {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}

import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";

export interface ProgramResult {
  /** As a shell tells it: 128 + n for a signal. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly seconds: number;
}

export interface ProgramOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string;
  /** The test writes the program's input itself, and ends it. */
  readonly keepInput?: boolean;
  readonly folder?: string;
  /** What the program has open as 3. */
  readonly passed?: number;
}

/** A program that runs while the test goes on. */
export interface RunningProgram {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<ProgramResult>;
  stdout(): string;
  stderr(): string;
  /** Waits until its output contains a text; fails when it ends before that. */
  until(text: string): Promise<void>;
}

export function start(words: readonly string[], options: ProgramOptions = {}): RunningProgram {
  const [command = "", ...rest] = words;
  const started = performance.now();
  const child = spawn(command, rest, {
    cwd: options.folder,
    // A test says exactly what its programs see; only what finds programs and files is passed on.
    env: {
      PATH: process.env["PATH"],
      HOME: process.env["HOME"],
      TMPDIR: process.env["TMPDIR"],
      ...options.environment,
    },
    stdio: ["pipe", "pipe", "pipe", ...(options.passed === undefined ? [] : [options.passed])],
    // The first three are pipes, whatever else there is.
  }) as ChildProcessByStdio<Writable, Readable, Readable>;
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output.stderr += text));
  child.stdin.on("error", () => undefined);
  if (options.keepInput !== true) child.stdin.end(options.input ?? "");
  const ended = new Promise<ProgramResult>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      resolve({ status, ...output, seconds: (performance.now() - started) / 1000 });
    });
  });
  // Whoever waits for `ended` sees the error; a test that never does must not die of it.
  ended.catch(() => undefined);
  return {
    child,
    pid: child.pid ?? 0,
    ended,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    until: async (text) => {
      await waitFor(`'${text}' in the output of ${words.join(" ")}`, () => {
        if (output.stdout.includes(text) || output.stderr.includes(text)) return true;
        if (child.exitCode === null && child.signalCode === null) return undefined;
        throw new Error(`${words.join(" ")} ended without '${text}':\n${output.stdout}${output.stderr}`);
      });
    },
  };
}

export async function execute(
  words: readonly string[],
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  return start(words, options).ended;
}

/** Asks again and again until there is an answer; the description is what a timeout complains about. */
export async function waitFor<T>(
  description: string,
  look: () => T | undefined | Promise<T | undefined>,
  timeoutMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await look();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline)
      throw new Error(`after ${timeoutMs / 1000} s there was still not: ${description}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

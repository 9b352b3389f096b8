import { spawn, type ChildProcess } from "node:child_process";
import { constants } from "node:os";

export interface Ended {
  /** As a shell tells it: 128 + n for a signal. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Program {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  readonly stdout: () => string;
  readonly stderr: () => string;
}

/** A real child process whose output is kept. Without input it has no stdin. */
export function startProgram(
  words: readonly string[],
  environment: NodeJS.ProcessEnv,
  input?: string,
): Program {
  const [file = "", ...rest] = words;
  const child = spawn(file, rest, { env: environment, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      resolve({ status: signal === null ? (code ?? 0) : 128 + constants.signals[signal], stdout, stderr });
    });
  });
  return { child, ended, stdout: () => stdout, stderr: () => stderr };
}

export interface TerminalProgram {
  readonly ended: Promise<Pick<Ended, "status" | "stdout">>;
  readonly stdout: () => string;
  type(keys: string): void;
}

/** A program on a pseudo-terminal, which `script` of util-linux makes. */
export function startOnTerminal(words: readonly string[], environment: NodeJS.ProcessEnv): TerminalProgram {
  const quoted = words.map((word) => `'${word.replaceAll("'", String.raw`'\''`)}'`).join(" ");
  const child = spawn("/usr/bin/script", ["-qec", `exec ${quoted}`, "/dev/null"], {
    env: { ...environment, SHELL: "/bin/sh" },
    stdio: ["pipe", "pipe", "inherit"],
  });
  let stdout = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  const ended = new Promise<Pick<Ended, "status" | "stdout">>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve({ status: code ?? -1, stdout }));
  });
  return { ended, stdout: () => stdout, type: (keys) => child.stdin.write(keys) };
}

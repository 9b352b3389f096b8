import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type TerminalProgram, startOnTerminal } from "@farpool/testkit";
import { onTestFinished } from "vitest";
import { farpool } from "../../../scripts/repository.ts";
import { type ProgramOptions, type ProgramResult, type RunningProgram, execute, start } from "./program.ts";

/** A machine as far as files, sockets, GPUs and accounts' homes go; all of them share this one's kernel. */
export interface Machine {
  readonly name: string;
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  /** `farpool …` on it, to its end. */
  farpool(words: readonly string[], options?: ProgramOptions): Promise<ProgramResult>;
  /** The same; what it printed. Fails when it failed. */
  output(...words: readonly string[]): Promise<string>;
  /** `farpool …` on it, for as long as somebody lets it. */
  launch(words: readonly string[], options?: ProgramOptions): RunningProgram;
  /** `farpool …` on it, while the test goes on: it is ended with the test. */
  start(words: readonly string[], options?: ProgramOptions): RunningProgram;
  /** On a terminal of its own, as a person would see it. */
  onTerminal(words: readonly string[]): TerminalProgram;
}

export function createMachine(
  parent: string,
  name: string,
  more: Readonly<Record<string, string>> = {},
): Machine {
  const folder = join(parent, name);
  // The embedded database runs as another user when the tests run as root.
  mkdirSync(folder, { mode: 0o711 });
  const home = join(folder, "home");
  mkdirSync(home);
  const environment = {
    HOME: home,
    FARPOOL_STATE: join(folder, "state"),
    FARPOOL_SIMGPU_STATE: join(folder, "simgpu"),
    FARPOOL_SIMGPU_SEED: name,
    ...more,
  };
  const within = (options: ProgramOptions = {}): ProgramOptions => ({
    ...options,
    environment: { ...environment, ...options.environment },
  });
  const launch: Machine["launch"] = (words, options) => start([farpool, ...words], within(options));
  return {
    name,
    folder,
    environment,
    launch,
    farpool: (words, options) => execute([farpool, ...words], within(options)),
    async output(...words) {
      const { status, stdout, stderr } = await execute([farpool, ...words], within());
      if (status !== 0)
        throw new Error(`on ${name}: farpool ${words.join(" ")} ended with ${status}:\n${stderr}`);
      return stdout;
    },
    start(words, options) {
      const program = launch(words, options);
      onTestFinished(async () => {
        if (program.child.exitCode === null && program.child.signalCode === null)
          program.child.kill("SIGTERM");
        await program.ended;
      });
      return program;
    },
    onTerminal: (words) =>
      startOnTerminal([farpool, ...words], { PATH: process.env["PATH"], ...environment }),
  };
}

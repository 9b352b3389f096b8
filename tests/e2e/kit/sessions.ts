import { example } from "./pool.ts";
import type { Machine } from "./machine.ts";
import { type RunningProgram, waitFor } from "./program.ts";

/** A session of `farpool run` on a machine, with a CUDA program in it that computes until it is ended. */
export interface Held {
  readonly run: RunningProgram;
  readonly id: string;
  /** Ends the program; its GPUs are given back. */
  end(): Promise<void>;
}

/** Asks for GPUs and waits until the program computes. */
export async function hold(machine: Machine, ...options: string[]): Promise<Held> {
  const words = ["run", "-v", ...options, "--", example("busy"), "1000000", "16", "100"];
  const run = machine.start(words);
  await run.until("round 1\n");
  return {
    run,
    id: sessionIn(run.stderr()),
    async end() {
      run.child.kill("SIGTERM");
      await run.ended;
    },
  };
}

/** Asks for GPUs that are not there; waits until it says the text. The program is a real one, and says PASSED. */
export async function queue(machine: Machine, text: string, ...options: string[]): Promise<RunningProgram> {
  const run = machine.start(["run", "-v", ...options, "--", example("vector-add")]);
  await run.until(text);
  return run;
}

/** `session s-7f3k2m9q` as `run` says it. */
export function sessionIn(text: string): string {
  const id = /session (s-\w{8})/.exec(text)?.[1];
  if (id === undefined) throw new Error(`no session is named in:\n${text}`);
  return id;
}

/** What a command with `--json` prints. The tests say themselves what they look for in it. */
export async function json<T>(machine: Machine, ...words: string[]): Promise<T> {
  return JSON.parse(await machine.output(...words, "--json")) as T;
}

/** Asks a command again and again, as a person would who waits for something. */
export function shown(machine: Machine, words: readonly string[], pattern: RegExp): Promise<string> {
  let last = "";
  return waitFor(`${String(pattern)} in farpool ${words.join(" ")}`, async () => {
    last = await machine.output(...words);
    return pattern.test(last) ? last : undefined;
  }).catch((cause: unknown) => {
    throw new Error(`farpool ${words.join(" ")} on ${machine.name} goes on to say:\n${last}`, { cause });
  });
}

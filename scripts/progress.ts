import { styleText } from "node:util";

/** What people see of set-up and build: one line for each thing that took time, on stderr. */
export async function step<T>(title: string, work: () => Promise<T>): Promise<T> {
  const started = performance.now();
  const announce = setTimeout(() => write(`  ${title} …`), 1500);
  try {
    const result = await work();
    const seconds = (performance.now() - started) / 1000;
    if (seconds >= 1.5) write(`  ${title}: ${formatSeconds(seconds)}`);
    return result;
  } catch (error) {
    write(`  ${styleText("red", "failed", { stream: process.stderr })}: ${title}`);
    throw error;
  } finally {
    clearTimeout(announce);
  }
}

export function formatSeconds(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function write(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Runs a script's main function: an expected failure prints its message, not a stack. */
export async function main(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    const expected =
      error instanceof Error && (error.name === "CommandFailed" || error.name === "SetupFailed");
    write(`farpool: ${expected ? error.message : error instanceof Error ? error.stack : String(error)}`);
    process.exitCode = 1;
  }
}

/** The machine lacks something that we do not install by ourselves. */
export class SetupFailed extends Error {
  constructor(fact: string, hint: string) {
    super(`${fact}\nhint: ${hint}`);
    this.name = "SetupFailed";
  }
}

import { writeSync } from "node:fs";
import { ERRORS, FarpoolError } from "@farpool/contract";

export type Verbosity = "quiet" | "normal" | "verbose";

let verbosity: Verbosity = "normal";

/** For the rest of this process: what `-q` and `-v` ask for. */
export function setVerbosity(wanted: Verbosity): void {
  verbosity = wanted;
}

/** Everything of ours goes to stderr; stdout belongs to data that was asked for, and to the programs we run. */
export function say(line: string): void {
  if (verbosity !== "quiet") writeAll(2, `${line}\n`);
}

/** Said with `-v` only. */
export function tell(line: string): void {
  if (verbosity === "verbose") writeAll(2, `${line}\n`);
}

/** Who closes the pipe has read enough; a full disk is a failure. */
export function print(text: string): void {
  const failure = writeAll(1, `${text}\n`);
  if (failure === undefined || failure === "EPIPE") return;
  throw new FarpoolError("FARPOOL_UNAVAILABLE", `the output cannot be written (${failure})`, { hint: null });
}

/** `1 server`, `2 servers`. */
export function counted(count: number, one: string, several = `${one}s`): string {
  return `${count} ${count === 1 ? one : several}`;
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Whether a person reads along. */
export function isTerminal(): boolean {
  return process.stderr.isTTY;
}

export function complain(error: unknown): number {
  const known = error instanceof FarpoolError ? error : undefined;
  const message = error instanceof Error ? error.message : String(error);
  writeAll(2, `farpool: ${message}\n`);
  if (known !== undefined && known.hint !== null) writeAll(2, `hint: ${known.hint}\n`);
  if (verbosity === "verbose") for (const line of causes(error)) writeAll(2, `${line}\n`);
  if (process.env["FARPOOL_DEBUG"] === "1" && error instanceof Error) writeAll(2, `${error.stack ?? ""}\n`);
  return known?.exitCode ?? ERRORS.FARPOOL_INTERNAL.exitCode;
}

/** What is behind an error, outermost first. */
function causes(error: unknown): string[] {
  const found: string[] = [];
  let cause = error instanceof Error ? error.cause : undefined;
  while (cause instanceof Error && found.length < 8) {
    found.push(`cause: ${cause.message}`);
    cause = cause.cause;
  }
  return found;
}

/** Columns as wide as their widest cell; the last one is not padded. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(header), ...rows.map(line)].join("\n");
}

/** Returns the code of what kept it from writing. */
function writeAll(descriptor: number, text: string): string | undefined {
  let bytes = Buffer.from(text);
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(descriptor, bytes));
    } catch (error) {
      const code = error instanceof Error && "code" in error ? String(error.code) : String(error);
      // A full pipe takes more in a moment; a closed one takes nothing any more.
      if (code !== "EAGAIN") return code;
    }
  }
  return undefined;
}

import { appendFileSync, readFileSync, renameSync, statSync } from "node:fs";

/** One file of this size, and the one before it. */
const MAX_BYTES = 1 << 20;

/** What the service has to tell: to the journal, and to a file from which ordinary users are answered. */
export interface ServiceLog {
  write(sentence: string): void;
  /** The last lines, oldest first. */
  last(count: number): readonly string[];
}

export function openLog(path: string): ServiceLog {
  return {
    write(sentence) {
      // Others' programs have a say in what they are called, and terminals obey some characters.
      const line = sentence.replaceAll(/\p{Cc}+/gu, " ");
      // Under systemd this is the journal, which has its own clock.
      process.stderr.write(`${line}\n`);
      try {
        if ((statSync(path, { throwIfNoEntry: false })?.size ?? 0) > MAX_BYTES) renameSync(path, `${path}.1`);
        appendFileSync(path, `${new Date().toISOString()} ${line}\n`, { mode: 0o600 });
      } catch {
        // A full disk must not end the service; the journal has the line.
      }
    },
    last(count) {
      const lines = [`${path}.1`, path].flatMap((file) => read(file).split("\n"));
      return lines.filter((line) => line !== "").slice(-count);
    },
  };
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

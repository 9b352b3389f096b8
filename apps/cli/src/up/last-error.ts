import { readFileSync } from "node:fs";
import * as z from "zod";

const lineSchema = z.object({ level: z.number().min(40), err: z.object({ message: z.string() }) });

/** The last failure in a part's log, for those who would otherwise have to look for it. */
export function lastError(logFile: string): string | undefined {
  for (const line of readLines(logFile).toReversed()) {
    try {
      const parsed = lineSchema.safeParse(JSON.parse(line));
      if (parsed.success) return parsed.data.err.message;
    } catch {
      // Not every part writes JSON, and the last line may be half written.
    }
  }
  return undefined;
}

function readLines(file: string): string[] {
  try {
    return readFileSync(file, "utf8").split("\n");
  } catch {
    return [];
  }
}

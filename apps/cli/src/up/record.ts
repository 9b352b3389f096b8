import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { upFile, type PoolFolders } from "@farpool/layout";
import * as z from "zod";
import { isAlive, processInfo } from "../run/processes.ts";

const processSchema = z.object({ name: z.string(), pid: z.int(), startTime: z.string() });

/** What `up` leaves in both of its folders: who runs the pool, and what it started. */
const recordSchema = z.object({
  pid: z.int(),
  startTime: z.string(),
  isReady: z.boolean(),
  address: z.string(),
  description: z.string(),
  /** Where its sockets are: another shell of the same user may have another XDG_RUNTIME_DIR. */
  runtime: z.string().default(""),
  processes: z.array(processSchema),
});
export type UpRecord = z.output<typeof recordSchema>;
export type RecordedProcess = z.output<typeof processSchema>;

/**
 * The sockets' folder and the database's each belong to one pool at a time, and two pools may differ in one
 * of them only.
 */
function recordFiles(folders: PoolFolders): readonly string[] {
  return [upFile(folders), join(folders.state, "up.json")];
}

function readRecords(folders: PoolFolders): readonly UpRecord[] {
  return recordFiles(folders).flatMap((path) => readAt(path) ?? []);
}

/** The record of an `up` that is alive. A number that another process has by now does not count. */
export function readLiveRecord(folders: PoolFolders): UpRecord | undefined {
  return readRecords(folders).find(isAlive);
}

/** What an `up` that was killed had started; the two folders may have been two pools'. */
export function readLeftovers(folders: PoolFolders): readonly RecordedProcess[] {
  return readRecords(folders)
    .filter((record) => !isAlive(record))
    .flatMap(({ processes }) => processes);
}

function readAt(path: string): UpRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch {
    return undefined;
  }
}

/** Makes this process the one that runs the pool; returns the record of the one that does already. */
export function claim(folders: PoolFolders, record: UpRecord): UpRecord | undefined {
  const claimed: string[] = [];
  for (const path of recordFiles(folders)) {
    const other = claimFile(path, record);
    if (other !== undefined) {
      for (const own of claimed) rmSync(own, { force: true });
      return other;
    }
    claimed.push(path);
  }
  return undefined;
}

/** Of two that start at once one wins: a link is made or exists. */
function claimFile(path: string, record: UpRecord): UpRecord | undefined {
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify(record), { mode: 0o600 });
  try {
    for (;;) {
      const other = readAt(path);
      if (other !== undefined && isAlive(other)) return other;
      rmSync(path, { force: true });
      try {
        linkSync(own, path);
        return undefined;
      } catch {
        // Somebody else was quicker; the record says who.
      }
    }
  } finally {
    rmSync(own, { force: true });
  }
}

export function writeRecord(folders: PoolFolders, record: UpRecord): void {
  for (const path of recordFiles(folders)) {
    writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
}

export function removeRecord(folders: PoolFolders): void {
  for (const path of recordFiles(folders)) rmSync(path, { force: true });
}

export function ownIdentity(): Pick<UpRecord, "pid" | "startTime"> {
  return { pid: process.pid, startTime: processInfo("self")?.startTime ?? "" };
}

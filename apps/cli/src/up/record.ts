import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { upFile, type PoolFolders } from "@farpool/layout";
import * as z from "zod";
import { isAlive, processInfo } from "../run/processes.ts";

const processSchema = z.object({ name: z.string(), pid: z.int(), startTime: z.string() });

/** What `up` leaves in the runtime folder: who runs the pool, and what it started. */
const recordSchema = z.object({
  pid: z.int(),
  startTime: z.string(),
  isReady: z.boolean(),
  address: z.string(),
  description: z.string(),
  processes: z.array(processSchema),
});
export type UpRecord = z.output<typeof recordSchema>;
export type RecordedProcess = z.output<typeof processSchema>;

export function readRecord(folders: PoolFolders): UpRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(upFile(folders), "utf8")));
  } catch {
    return undefined;
  }
}

/** The record of an `up` that is alive. A number that another process has by now does not count. */
export function readLiveRecord(folders: PoolFolders): UpRecord | undefined {
  const record = readRecord(folders);
  return record !== undefined && isAlive(record) ? record : undefined;
}

/**
 * Makes this process the one that runs the pool; returns the record of the one that does already. Of two
 * that start at once one wins: a link is made or exists.
 */
export function claim(folders: PoolFolders, record: UpRecord): UpRecord | undefined {
  const path = upFile(folders);
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify(record), { mode: 0o600 });
  try {
    for (;;) {
      const live = readLiveRecord(folders);
      if (live !== undefined) return live;
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
  const path = upFile(folders);
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function removeRecord(folders: PoolFolders): void {
  rmSync(upFile(folders), { force: true });
}

export function ownIdentity(): Pick<UpRecord, "pid" | "startTime"> {
  return { pid: process.pid, startTime: processInfo("self")?.startTime ?? "" };
}

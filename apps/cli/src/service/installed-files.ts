import { chmodSync, existsSync, mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { FarpoolError } from "@farpool/contract";
import type { InstalledFile } from "./units.ts";

/** What an install has made, so that exactly this is removed. */
interface InstallRecord {
  readonly files: readonly string[];
  readonly folders: readonly string[];
  /** The account's units outlive its logins since then. */
  readonly isLingering?: boolean;
}

/** Writes the files, and removes those of an install before this one that are not among them. */
export function writeFiles(recordFile: string, files: readonly InstalledFile[]): void {
  const before = readRecord(recordFile);
  const isStale = (path: string): boolean => files.every((file) => file.path !== path);
  for (const path of before.files.filter(isStale)) remove(path);
  let made: InstallRecord = { ...before, files: before.files.filter((path) => !isStale(path)) };
  for (const { path, text, mode = 0o644 } of files) {
    made = {
      ...made,
      files: [...new Set([...made.files, path])],
      folders: [...new Set([...made.folders, ...missingFolders(dirname(path))])],
    };
    try {
      // First, so that what an install that fails has made can be removed, too.
      writeRecord(recordFile, made);
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      writeFileSync(path, text, { mode });
      chmodSync(path, mode);
    } catch (cause) {
      const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
      throw new FarpoolError("FARPOOL_UNAVAILABLE", `${path} cannot be written (${code})`, {
        hint: "'farpool service uninstall' removes what was written before it",
        cause,
      });
    }
  }
}

/** Removes what the record names, the record, and `more`. */
export function removeFiles(recordFile: string, more: readonly string[]): void {
  const { files, folders } = readRecord(recordFile);
  for (const path of [...files, ...more, recordFile]) remove(path);
  // Deepest first; one that others use stays.
  for (const folder of folders.toSorted((left, right) => right.length - left.length)) removeIfEmpty(folder);
}

export function noteLingering(recordFile: string): void {
  writeRecord(recordFile, { ...readRecord(recordFile), isLingering: true });
}

export function hasMadeLingering(recordFile: string): boolean {
  return readRecord(recordFile).isLingering === true;
}

function readRecord(recordFile: string): InstallRecord {
  try {
    return JSON.parse(readFileSync(recordFile, "utf8")) as InstallRecord;
  } catch {
    return { files: [], folders: [] };
  }
}

function writeRecord(recordFile: string, record: InstallRecord): void {
  mkdirSync(dirname(recordFile), { recursive: true, mode: 0o711 });
  writeFileSync(recordFile, `${JSON.stringify(record)}\n`, { mode: 0o600 });
}

function remove(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    // Below a file there is nothing.
    if (!(error instanceof Error && "code" in error && error.code === "ENOTDIR")) throw error;
  }
}

function missingFolders(folder: string): readonly string[] {
  const missing: string[] = [];
  for (let each = folder; !existsSync(each); each = dirname(each)) missing.push(each);
  return missing;
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Somebody else's files are in it, or it is gone.
  }
}

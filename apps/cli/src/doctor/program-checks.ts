import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Installation } from "@farpool/layout";
import { loaderCache } from "../core/loader-cache.ts";
import { findProgram, ProgramError } from "../run/program.ts";
import { fail, pass, warning, type Check } from "./check.ts";
import { inspectProgram, MACHINE_X86_64, type ProgramFile } from "./elf.ts";

const LIBRARY = "libcuda.so.1";
const DEFAULT_FOLDERS = [
  "/lib/x86_64-linux-gnu",
  "/usr/lib/x86_64-linux-gnu",
  "/lib64",
  "/usr/lib64",
  "/lib",
  "/usr/lib",
];
const MOST_INTERPRETERS = 4;
/** Of programs that are searched for paths. */
const MOST_SEARCHED_BYTES = 256 * 1024 * 1024;

/** What of the installation programs load. */
type Libraries = Pick<Installation, "shimFolder" | "audit">;

/** Which libcuda a program would load under `farpool run`, and what would keep it from loading ours. */
export function checkProgram(name: string, libraries: Libraries): Check[] {
  let path: string;
  let file: ProgramFile;
  const checks: Check[] = [];
  try {
    path = findProgram(name, process.env["PATH"]);
    file = inspectProgram(path);
    for (let depth = 0; file.kind === "script" && depth < MOST_INTERPRETERS; depth += 1) {
      checks.push(pass("program", `${path} is a script for ${file.interpreter}`));
      path = findProgram(file.interpreter, process.env["PATH"]);
      file = inspectProgram(path);
    }
  } catch (error) {
    const message = error instanceof ProgramError || error instanceof Error ? error.message : String(error);
    return [...checks, fail("program", message, "name a program that exists and may be read")];
  }
  if (file.kind !== "elf")
    return [
      ...checks,
      fail("program", `${path} is no program for this machine`, "farpool runs 64-bit Linux programs"),
    ];
  const obstacle = findObstacle(path, file);
  if (obstacle !== undefined) return [...checks, obstacle];
  return [...checks, checkLibrary(path, file, libraries), ...checkPaths(path, libraries)];
}

/** A program that names libcuda by its path may load that one, whatever the loader's order says. */
function checkPaths(path: string, { audit }: Libraries): Check[] {
  if (statSync(path).size > MOST_SEARCHED_BYTES) return [];
  const text = readFileSync(path).toString("latin1");
  const named = new Set(text.match(/(?<=\0)\/[\w.+/-]*\/libcuda\.so(?:\.1)?(?=\0)/g));
  if (named.size === 0) return [];
  return [
    warning(
      "libcuda's path",
      `${path} names ${[...named].join(", ")}: a libcuda that it loads by that path is not the shim`,
      `if it uses no GPU of the pool, set LD_AUDIT=${audit}, which leads it to the shim`,
    ),
  ];
}

type ElfFile = Extract<ProgramFile, { kind: "elf" }>;

function findObstacle(path: string, file: ElfFile): Check | undefined {
  if (!file.is64Bit)
    return fail(
      "program",
      `${path} is a 32-bit program`,
      "CUDA 13 and farpool are 64-bit; use a 64-bit build",
    );
  if (file.machine !== MACHINE_X86_64)
    return fail(
      "program",
      `${path} is for another architecture (ELF machine ${file.machine})`,
      "farpool runs x86-64 programs",
    );
  if (file.loader === undefined)
    return fail(
      "program",
      `${path} is statically linked: it loads no libraries`,
      "use a build that is linked dynamically",
    );
  if (file.loader.includes("musl"))
    return fail("program", `${path} is linked with musl (${file.loader})`, "use a build for glibc");
  if (file.isPrivileged) {
    return fail(
      "program",
      `${path} is setuid or setgid: the loader ignores LD_LIBRARY_PATH for it`,
      "run a copy without these bits",
    );
  }
  return undefined;
}

/** The loader's order: RPATH (only without RUNPATH), LD_LIBRARY_PATH, RUNPATH, its cache, its default folders. */
function checkLibrary(path: string, file: ElfFile, { shimFolder, audit }: Libraries): Check {
  const origin = dirname(realpathSync(path));
  const expand = (folder: string): string => folder.replaceAll(/\$\{?ORIGIN\}?/g, origin);
  const rpath = file.runpath.length > 0 ? [] : file.rpath.map(expand);
  const candidates = [
    ...rpath.map((folder) => ({ how: "its RPATH", library: join(folder, LIBRARY) })),
    { how: "LD_LIBRARY_PATH, as 'farpool run' sets it", library: join(shimFolder, LIBRARY) },
    ...file.runpath.map((folder) => ({ how: "its RUNPATH", library: join(expand(folder), LIBRARY) })),
    ...loaderCache().map((library) => ({ how: "the loader's cache", library })),
    ...DEFAULT_FOLDERS.map((folder) => ({ how: "the default folders", library: join(folder, LIBRARY) })),
  ];
  const first = candidates.find(({ library }) => existsSync(library));
  if (first === undefined)
    return fail(
      "libcuda",
      `${path} would find no ${LIBRARY}`,
      "the shim is missing: 'npm run build' builds it",
    );
  const sentence = `${path} would load ${first.library} (${first.how})`;
  if (first.library === join(shimFolder, LIBRARY)) {
    return file.needed.includes(LIBRARY) || file.rpath.length === 0
      ? pass("libcuda", sentence)
      : warning(
          "libcuda",
          sentence,
          "its RPATH comes before LD_LIBRARY_PATH: a libcuda.so.1 put there would win",
        );
  }
  return fail(
    "libcuda",
    sentence,
    `${first.how} wins over the shim; remove that libcuda.so.1, build without RPATH (use --enable-new-dtags), or set LD_AUDIT=${audit}`,
  );
}

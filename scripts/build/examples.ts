import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { runOrFail } from "../process.ts";
import { examples, library, root } from "../repository.ts";
import { type CudaToolkit, cudaToolkit } from "../setup/cuda-toolkit.ts";

interface Program {
  readonly name: string;
  readonly source: string;
  readonly flags: readonly string[];
}

// No architecture is named: what nvcc makes when nobody says anything is what must run.
const common = ["-O2", "-std=c++17"];

/** What single programs need beside that. */
const special: Readonly<Record<string, readonly string[]>> = {
  // What they show exists since compute capability 8.0.
  "async-copy": ["-arch=compute_80"],
  "half-precision": ["-arch=compute_80"],
  "multi-warp-tiles": ["-arch=compute_80"],
  "waiting-warps": ["-arch=compute_80"],
  "tensor-cores": ["-arch=compute_80"],
  "per-thread-stream": ["--default-stream", "per-thread"],
  // By its file: the headers of OpenSSL are not needed.
  // Which driver it takes after is found where the build puts that one.
  "hostile-driver": [
    ...[
      "-x",
      "c++",
      "-cudart",
      "none",
      "-Xlinker",
      "--no-as-needed",
      "-L",
      dirname(library.simgpu),
      "-lcuda",
    ],
    ...["-Xlinker", "-rpath", "-Xlinker", "$ORIGIN/../lib/simgpu"],
  ],
  "own-crypto": ["-Xlinker", "--no-as-needed", "-Xlinker", "-l:libcrypto.so.3"],
};

const exampleSources = join(root, "examples");
const testSources = join(root, "tests", "programs");
const librarySources = join(testSources, "libraries");

/** Every `.cu` as plain `nvcc` builds it; some also with the shared runtime library, some as libraries. */
function programs(toolkit: CudaToolkit): readonly Program[] {
  const runtimePath = ["-Xlinker", "-rpath", "-Xlinker", join(toolkit.home, "lib64")];
  return [
    ...[exampleSources, testSources].flatMap((folder) =>
      filesIn(folder, ".cu").map((source) => {
        const name = basename(source, ".cu");
        return { name, source, flags: [...common, ...(special[name] ?? [])] };
      }),
    ),
    ...["examples/vector-add", "examples/matrix-multiply", "tests/programs/two-runtimes"].map((path) => ({
      name: `${basename(path)}-shared`,
      source: join(root, `${path}.cu`),
      flags: [...common, "-cudart", "shared", ...runtimePath],
    })),
    ...filesIn(librarySources, ".cu").map((source) => ({
      name: `${basename(source, ".cu")}.so`,
      source,
      flags: [...common, "-shared", "-Xcompiler", "-fPIC", ...(special[basename(source, ".cu")] ?? [])],
    })),
  ];
}

function filesIn(folder: string, ending: string): readonly string[] {
  const names = readdirSync(folder).filter((file) => file.endsWith(ending));
  return names.toSorted().map((file) => join(folder, file));
}

/** Builds what changed: a program is rebuilt when a source, the flags or the compiler differ. */
export async function buildExamples(): Promise<void> {
  const toolkit = await cudaToolkit();
  const stamps = join(examples, ".built");
  mkdirSync(stamps, { recursive: true });
  const headers = [exampleSources, testSources].flatMap((folder) => filesIn(folder, ".h"));
  for (const program of programs(toolkit)) {
    const hash = createHash("sha256").update(JSON.stringify([toolkit, program.flags]));
    for (const file of [...headers, program.source]) hash.update(readFileSync(file));
    const digest = hash.digest("hex");
    const stamp = join(stamps, program.name);
    if (readStamp(stamp) === digest) continue;
    await compile(toolkit, program);
    writeFileSync(stamp, digest);
  }
}

async function compile(toolkit: CudaToolkit, program: Program): Promise<void> {
  const target = join(examples, program.name);
  const partial = `${target}.partial`;
  await runOrFail({
    command: toolkit.nvcc,
    arguments: [...program.flags, "-o", partial, program.source, "-ldl"],
    environment: { CUDA_HOME: toolkit.home },
    log: `nvcc-${program.name}`,
  });
  renameSync(partial, target);
}

function readStamp(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

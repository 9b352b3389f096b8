import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, readdirSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { wheelFolder } from "./wheels.ts";

export interface CudaToolkit {
  /** What CUDA_HOME would name: bin, include, lib64. */
  readonly home: string;
  readonly nvcc: string;
  readonly version: string;
  readonly origin: "machine" | "cache";
}

// 12.4 is the first release whose driver interface tells the sizes of kernel parameters.
const oldestUsable = [12, 4] as const;

/** An `nvcc` that is there and new enough, else one from PyPI in the user's cache. */
export async function cudaToolkit(): Promise<CudaToolkit> {
  return onMachine() ?? (await fromPyPi());
}

function onMachine(): CudaToolkit | undefined {
  const homes = [process.env["CUDA_HOME"], process.env["CUDA_PATH"], onPath(), "/usr/local/cuda"];
  for (const home of homes) {
    if (home === undefined || home === "") continue;
    const nvcc = join(home, "bin", "nvcc");
    const version = versionOf(nvcc);
    if (version !== undefined) return { home, nvcc, version, origin: "machine" };
  }
  return undefined;
}

function onPath(): string | undefined {
  const found = spawnSync("sh", ["-c", 'readlink -f "$(command -v nvcc)"'], { encoding: "utf8" });
  const path = found.stdout?.trim() ?? "";
  return path === "" ? undefined : dirname(dirname(path));
}

function versionOf(nvcc: string): string | undefined {
  const answer = spawnSync(nvcc, ["--version"], { encoding: "utf8" });
  const match = /release (\d+)\.(\d+)/.exec(answer.stdout ?? "");
  if (match === null) return undefined;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const usable = major > oldestUsable[0] || (major === oldestUsable[0] && minor >= oldestUsable[1]);
  return usable ? `${major}.${minor}` : undefined;
}

async function fromPyPi(): Promise<CudaToolkit> {
  const folder = await wheelFolder({
    folder: "cuda-13.0.88",
    wheels: [
      {
        name: "nvidia-cuda-nvcc",
        version: "13.0.88",
        sha256: "56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03",
      },
      {
        name: "nvidia-nvvm",
        version: "13.0.88",
        sha256: "c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0",
      },
      {
        name: "nvidia-cuda-crt",
        version: "13.0.88",
        sha256: "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
      },
      {
        name: "nvidia-cuda-runtime",
        version: "13.0.96",
        sha256: "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
      },
      {
        name: "nvidia-cuda-cccl",
        version: "13.0.85",
        sha256: "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
      },
    ],
    finish: makeToolkit,
  });
  const home = join(folder, "nvidia", "cu13");
  return { home, nvcc: join(home, "bin", "nvcc"), version: "13.0", origin: "cache" };
}

/** The wheels lack mode bits and the two links that nvcc's own linking relies on. */
function makeToolkit(folder: string): void {
  const home = join(folder, "nvidia", "cu13");
  for (const programs of [join(home, "bin"), join(home, "nvvm", "bin")]) {
    for (const entry of readdirSync(programs, { withFileTypes: true })) {
      if (entry.isFile()) chmodSync(join(programs, entry.name), 0o755);
    }
  }
  if (!existsSync(join(home, "lib64"))) symlinkSync("lib", join(home, "lib64"));
  if (!existsSync(join(home, "lib", "libcudart.so"))) {
    symlinkSync("libcudart.so.13", join(home, "lib", "libcudart.so"));
  }
}

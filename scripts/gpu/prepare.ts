import { spawnSync } from "node:child_process";
import { copyFileSync, lstatSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { notRemoted, scenarios } from "./known-differences.ts";
import { buildEverything } from "../build/everything.ts";
import { placeLink } from "../build/place.ts";
import { runOrFail } from "../process.ts";
import { SetupFailed, main, write } from "../progress.ts";
import { dist, examples, library, root } from "../repository.ts";
import { cudaToolkit } from "../setup/cuda-toolkit.ts";

// npm run gpu:prepare -- [--built]   gathers what scripts/gpu/verify.sh needs into target/gpu-verify

/** More does not travel to every machine that GPUs are borrowed on. */
const mostBytes = 56 * 2 ** 20;
const kit = join(root, "target", "gpu-verify");

await main(async () => {
  if (!process.argv.includes("--built")) await buildEverything();
  for (const folder of ["bin", "lib", "examples", "programs"])
    rmSync(join(kit, folder), { recursive: true, force: true });
  for (const program of ["farpool-acceptor", "farpool-worker", "farpool-bench", "farpool-stand"])
    await strip(join(dist, "bin", program), "bin");
  for (const name of ["shim", "simgpu"] as const) {
    const path = join(kit, "lib", name, basename(library[name]));
    await strip(library[name], join("lib", name));
    placeLink(path, join(dirname(path), "libcuda.so"));
  }
  // What nvcc makes when no architecture is named holds PTX for all GPUs from compute capability 7.5 on.
  for (const name of exampleNames()) await strip(join(examples, name), "examples");
  await strip(join(examples, "error-parity"), "programs");
  writeFileSync(join(kit, "programs", "error-parity.known"), knownDifferences());
  copyRuntime((await cudaToolkit()).home);
  writeFileSync(join(kit, "commit"), `${commit()}\n`);
  const bytes = sizeOf(kit);
  if (bytes > mostBytes)
    throw new SetupFailed(
      `${relative(root, kit)} has ${mebibytes(bytes)} MiB, and ${mebibytes(mostBytes)} at most may travel`,
      "leave out what no check of scripts/gpu/verify.sh needs",
    );
  write(`prepared: ${relative(root, kit)} (${mebibytes(bytes)} MiB)`);
});

/** The examples, those with the shared runtime library among them. */
function exampleNames(): readonly string[] {
  const sources = readdirSync(join(root, "examples")).filter((file) => file.endsWith(".cu"));
  const names = sources.map((file) => basename(file, ".cu"));
  const shared = readdirSync(examples).filter((name) => names.some((each) => name === `${each}-shared`));
  return [...names, ...shared].toSorted();
}

async function strip(from: string, folder: string): Promise<void> {
  mkdirSync(join(kit, folder), { recursive: true });
  await runOrFail({
    command: "strip",
    arguments: ["-o", join(kit, folder, basename(from)), from],
    log: "gpu-strip",
  });
}

/** For the examples that do not have the runtime inside. */
function copyRuntime(home: string): void {
  const folder = join(kit, "lib", "cuda");
  mkdirSync(folder, { recursive: true });
  const name = readdirSync(join(home, "lib64")).find((file) => /^libcudart\.so\.\d+$/.test(file));
  if (name === undefined)
    throw new SetupFailed(`${home}/lib64 has no libcudart.so.N`, "install the CUDA runtime");
  copyFileSync(join(home, "lib64", name), join(folder, name));
}

/** `SCENARIO<tab>everywhere|simulated<tab>WHAT: CALL`: lines of error-parity that may differ. */
function knownDifferences(): string {
  const lines = Object.entries(scenarios).flatMap(([scenario, reasons]) =>
    Object.entries(reasons).flatMap(([reason, known]) =>
      known.map((line) => `${scenario}\t${reason === notRemoted ? "everywhere" : "simulated"}\t${line}\n`),
    ),
  );
  return lines.join("");
}

function commit(): string {
  const git = (words: readonly string[]) =>
    spawnSync("git", words, { cwd: root, encoding: "utf8" }).stdout.trim();
  const changed = git(["status", "--porcelain", "--untracked-files=no"]) === "" ? "" : " with changes";
  return `${git(["rev-parse", "--short=12", "HEAD"])}${changed}`;
}

function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true })
    .map((file) => lstatSync(join(folder, String(file))).size)
    .reduce((sum, size) => sum + size, 0);
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1);
}

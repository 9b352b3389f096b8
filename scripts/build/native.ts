import { dirname, join } from "node:path";
import { runOrFail } from "../process.ts";
import { cargoTarget, dist, library, nvidiaSmi, root } from "../repository.ts";
import { zig } from "../setup/zig.ts";
import { place, placeLink } from "./place.ts";

/** The oldest C library on which a client process may run (driver-abi "Loading", ADR 7), and a broker beside it. */
const clientTarget = { triple: "x86_64-unknown-linux-gnu", glibc: "2.28" } as const;

interface Target {
  readonly name: string;
  readonly kind: readonly string[];
}

interface Package {
  readonly name: string;
  readonly manifest_path: string;
  readonly targets: readonly Target[];
}

/** Cargo's own view of the workspace: what is built where is read from it, not guessed. */
async function workspacePackages(): Promise<readonly Package[]> {
  const metadata = await runOrFail({
    command: "cargo",
    arguments: ["metadata", "--no-deps", "--format-version=1"],
    log: "cargo-metadata",
  });
  const parsed = JSON.parse(metadata.stdout) as { packages: Package[] };
  return parsed.packages;
}

function packageAt(packages: readonly Package[], folder: string): Package {
  const manifest = join(root, "native", folder, "Cargo.toml");
  const found = packages.find((candidate) => candidate.manifest_path === manifest);
  if (found === undefined) throw new Error(`native/${folder} is not a member of the cargo workspace`);
  return found;
}

function targetOf(candidate: Package, kind: string): string {
  const target = candidate.targets.find((entry) => entry.kind.includes(kind));
  if (target === undefined) throw new Error(`${candidate.name} has no ${kind} target`);
  return target.name;
}

function programsOf(candidate: Package): readonly string[] {
  return candidate.targets.filter(({ kind }) => kind.includes("bin")).map(({ name }) => name);
}

// A lock file that no longer fits is mended while developing; in CI it is an error.
const locked = process.env["CI"] === "true" ? ["--locked"] : [];

/** Worker, acceptor, simulated GPU, bench and stand: they run where they were built. */
export async function buildServerPrograms(): Promise<void> {
  const packages = await workspacePackages();
  const [worker, acceptor, simgpu, simgpuNvml, bench, stand] = [
    packageAt(packages, "worker"),
    packageAt(packages, "acceptor"),
    packageAt(packages, "simgpu"),
    packageAt(packages, "simgpu-nvml"),
    packageAt(packages, "bench"),
    packageAt(packages, "stand"),
  ];
  await runOrFail({
    command: "cargo",
    arguments: [
      ...["build", "--release", ...locked],
      ...[worker, acceptor, simgpu, simgpuNvml, bench, stand].flatMap((each) => ["-p", each.name]),
    ],
    log: "cargo-build",
  });
  const release = join(cargoTarget, "release");
  for (const program of [worker, acceptor, bench, stand].flatMap(programsOf)) {
    place(join(release, program), join(dist, "bin", program));
  }
  placeLibrary(join(release, libraryFile(targetOf(simgpu, "cdylib"))), library.simgpu, "libcuda.so");
  placeLibrary(
    join(release, libraryFile(targetOf(simgpuNvml, "cdylib"))),
    library.simgpuNvml,
    "libnvidia-ml.so",
  );
}

/** The shims run in other people's processes, so they are linked for an old C library; so is what stands beside them. */
export async function buildShim(): Promise<void> {
  placeLibrary(await buildForClients("shim-cuda"), library.shim, "libcuda.so");
  placeLibrary(await buildForClients("shim-nvml"), library.shimNvml, "libnvidia-ml.so");
  place(await buildForClients("audit"), library.audit);
  const smi = join(dist, "bin", "farpool-smi");
  place(await buildForClients("smi"), smi);
  placeLink(smi, nvidiaSmi);
}

/** The add-on runs in Node on client machines. By itself, so that no feature it asks of a crate gets into the shim. */
export async function buildAddOn(): Promise<void> {
  place(await buildForClients("os"), library.addOn);
}

/** Builds the library or program of native/FOLDER for the oldest clients, and answers where it is. */
async function buildForClients(folder: string): Promise<string> {
  const built = packageAt(await workspacePackages(), folder);
  const tools = await zig();
  await runOrFail({
    command: tools.cargoZigbuild,
    arguments: [
      ...["zigbuild", "--release", ...locked],
      ...["-p", built.name, "--target", `${clientTarget.triple}.${clientTarget.glibc}`],
    ],
    environment: { CARGO_ZIGBUILD_ZIG_PATH: tools.zig },
    log: `cargo-zigbuild-${folder}`,
  });
  const [program] = programsOf(built);
  const file = program ?? libraryFile(targetOf(built, "cdylib"));
  return join(cargoTarget, clientTarget.triple, "release", file);
}

function libraryFile(target: string): string {
  return `lib${target.replaceAll("-", "_")}.so`;
}

/** With the link by which programs are linked, and some ask. */
function placeLibrary(source: string, target: string, link: string): void {
  place(source, target);
  placeLink(target, join(dirname(target), link));
}

import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Where things are in a checkout. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const dist = join(root, "dist");
export const logs = join(root, ".cache", "logs");
export const nodeModulesBin = join(root, "node_modules", ".bin");
export const cargoTarget = resolve(root, process.env["CARGO_TARGET_DIR"] ?? "target");

/** Downloaded tools outlive a checkout, so they lie in the user's cache. */
export const toolCache = join(process.env["XDG_CACHE_HOME"] || join(homedir(), ".cache"), "farpool");

export const farpool = join(root, "farpool");
/** The same with the reference product's commands. */
export const bitfusion = join(root, "bitfusion");
export const library = {
  shim: join(dist, "lib", "shim", "libcuda.so.1"),
  shimNvml: join(dist, "lib", "shim", "libnvidia-ml.so.1"),
  simgpu: join(dist, "lib", "simgpu", "libcuda.so.1"),
  simgpuNvml: join(dist, "lib", "simgpu", "libnvidia-ml.so.1"),
  audit: join(dist, "lib", "audit", "libfarpool-audit.so"),
  addOn: join(dist, "lib", "farpool-os.node"),
};
/** Our nvidia-smi, by the name that programs look for. */
export const nvidiaSmi = join(dist, "compat", "nvidia-smi");
export const examples = join(dist, "examples");

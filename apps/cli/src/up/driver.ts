import { existsSync, realpathSync } from "node:fs";
import { dirname } from "node:path";
import { readInventory } from "@farpool/agent";
import { FarpoolError, formatGpus, type Inventory } from "@farpool/contract";
import type { Installation } from "@farpool/layout";
import { loaderCache } from "../core/loader-cache.ts";

export interface DriverChoice {
  readonly driver: string;
  readonly inventory: Inventory;
  /** For people: which one, and why. */
  readonly sentence: string;
}

export interface DriverWish {
  readonly driver: string | undefined;
  readonly simulated: number | undefined;
  readonly gpus: readonly number[] | undefined;
}

const USUAL_PLACES = [
  "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
  "/usr/lib64/libcuda.so.1",
  "/usr/lib/wsl/lib/libcuda.so.1",
  "/usr/local/nvidia/lib64/libcuda.so.1",
];

/** NVIDIA's driver when a worker can use it, else the simulated GPU. */
export async function chooseDriver(wish: DriverWish, installation: Installation): Promise<DriverChoice> {
  const indexes = wish.gpus ?? null;
  const read = (driver: string): Promise<Inventory> =>
    readInventory({ worker: installation.worker, driver, indexes });
  if (wish.driver !== undefined)
    return describe(wish.driver, await insist(wish.driver, read), "as --driver says");
  if (wish.simulated === undefined) {
    for (const driver of installedDrivers(installation)) {
      const inventory = await read(driver).catch(() => undefined);
      if (inventory !== undefined && inventory.gpus.length > 0)
        return describe(driver, inventory, `driver ${inventory.driverVersion}`);
    }
  }
  const driver = installation.simulatedDriver;
  if (!existsSync(driver)) {
    throw new FarpoolError(
      "FARPOOL_UNAVAILABLE",
      `there is no usable NVIDIA driver, and no simulated GPU at ${driver}`,
      {
        hint: "in a checkout, 'npm run build' builds it",
      },
    );
  }
  const why = wish.simulated === undefined ? "no NVIDIA driver can be used here" : "as --simulated says";
  return describe(driver, await insist(driver, read), why);
}

async function insist(driver: string, read: (driver: string) => Promise<Inventory>): Promise<Inventory> {
  try {
    return await read(driver);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const sentence = why.includes(driver) ? why : `${driver}: ${why}`;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", sentence, { cause, hint: null });
  }
}

function describe(driver: string, inventory: Inventory, why: string): DriverChoice {
  const gpus = formatGpus(
    inventory.gpus.map((gpu) => ({ name: gpu.name, totalBytes: gpu.memoryTotalBytes, limitBytes: null })),
  );
  return { driver, inventory, sentence: `${gpus === "" ? "no GPUs" : gpus} (${why})` };
}

/** Every libcuda.so.1 the loader knows, except our own shim, which would lead back to the pool. */
export function installedDrivers(installation: Installation): string[] {
  const own = dirname(dirname(realpathSync(installation.worker)));
  const found = new Set<string>();
  for (const path of [...loaderCache(), ...USUAL_PLACES]) {
    if (!existsSync(path)) continue;
    const real = realpathSync(path);
    if (!real.startsWith(`${own}/`)) found.add(path);
  }
  return [...found];
}

import { execFile } from "node:child_process";
import { inventorySchema, type Inventory } from "@farpool/contract";

/** Loading NVIDIA's driver on a machine with eight GPUs takes some seconds. */
const TIMEOUT_MS = 60_000;

export interface InventorySource {
  readonly worker: string;
  readonly driver: string;
  /** Offer only GPUs with these indexes; null: all. */
  readonly indexes: readonly number[] | null;
}

/** Asks a worker what GPUs there are; rejects with the worker's own sentence. */
export async function readInventory({ worker, driver, indexes }: InventorySource): Promise<Inventory> {
  const inventory = await new Promise<Inventory>((resolve, reject) => {
    execFile(
      worker,
      ["inventory", "--driver", driver],
      { timeout: TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error !== null) {
          const sentence = stderr.trim().split("\n").at(-1);
          reject(
            new Error(
              sentence === undefined || sentence === ""
                ? error.message
                : sentence.replace(/^farpool-worker: /, ""),
            ),
          );
          return;
        }
        try {
          resolve(inventorySchema.parse(JSON.parse(stdout)));
        } catch (cause) {
          reject(new Error(`the inventory of ${worker} is not understood`, { cause }));
        }
      },
    );
  });
  if (indexes === null) return inventory;
  const missing = indexes.filter((index) => inventory.gpus.every((gpu) => gpu.index !== index));
  if (missing.length > 0) {
    throw new Error(
      `there is no GPU ${missing.join(", ")}: the driver names ${inventory.gpus.length} (0 to ${inventory.gpus.length - 1})`,
    );
  }
  return { ...inventory, gpus: inventory.gpus.filter((gpu) => indexes.includes(gpu.index)) };
}

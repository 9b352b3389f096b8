import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type * as z from "zod";
import { gpuUuidSchema, type inventorySchema } from "@farpool/contract";

const ADD_ON = fileURLToPath(new URL("../../../dist/lib/farpool-os.node", import.meta.url));
const FAKES = {
  acceptor: fileURLToPath(new URL("./fake-acceptor.ts", import.meta.url)),
  worker: fileURLToPath(new URL("./fake-worker.ts", import.meta.url)),
};
export const GIB = 1024 ** 3;

type InventoryText = z.input<typeof inventorySchema>;

export interface FakeGpu {
  readonly uuid: string;
  readonly name: string;
  readonly memoryTotalBytes: number;
}

/** As a worker prints it. */
export function fakeInventory(gpus: readonly FakeGpu[], simulated = true): InventoryText {
  return {
    driverVersion: "13.0",
    simulated,
    gpus: gpus.map((gpu, index) => ({
      index,
      uuid: gpuUuidSchema.parse(gpu.uuid),
      name: gpu.name,
      memoryTotalBytes: gpu.memoryTotalBytes,
      memoryUsedBytes: 0,
      computeCapability: "8.0",
      pciBusId: `0000:0${index}:00.0`,
      multiprocessors: 4,
    })),
  };
}

/** A folder like `dist/` whose acceptor and worker are the fakes, the add-on the real one; for `FARPOOL_DIST`. */
export function createFakeInstallation(folder: string, gpus: readonly FakeGpu[]): string {
  for (const part of ["bin", "lib/shim", "lib/simgpu"]) mkdirSync(join(folder, part), { recursive: true });
  for (const [name, file] of Object.entries(FAKES)) {
    const script = join(folder, "bin", `farpool-${name}`);
    writeFileSync(script, `#!/bin/sh\nexec '${process.execPath}' '${file}' "$@"\n`);
    chmodSync(script, 0o755);
  }
  writeFileSync(join(folder, "lib/simgpu/libcuda.so.1"), JSON.stringify(fakeInventory(gpus)));
  writeFileSync(join(folder, "lib/shim/libcuda.so.1"), "");
  symlinkSync(ADD_ON, join(folder, "lib/farpool-os.node"));
  return folder;
}

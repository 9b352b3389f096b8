import { join } from "node:path";
import { wheelFolder } from "./wheels.ts";

export interface NvmlTools {
  /** NVIDIA's nvml.h of CUDA 13.0: what our description is compared with. */
  readonly header: string;
  /** For PYTHONPATH: nvidia-ml-py as it is, to ask our libraries with. */
  readonly python: string;
}

/** NVIDIA's own, from PyPI: neither may be part of this repository. */
export async function nvmlTools(): Promise<NvmlTools> {
  const folder = await wheelFolder({
    folder: "nvml-13.0.87-py-13.615.71",
    wheels: [
      {
        name: "nvidia-nvml-dev",
        version: "13.0.87",
        sha256: "082871368275cf6620fc900f55d8eaf2563b263a38a00a5168e9650bce963ba1",
      },
      {
        name: "nvidia-ml-py",
        version: "13.615.71",
        sha256: "959bf4adf6fe1308e4bd739e722236b0d1ec8392e2cefad33ff70c311380b9b6",
      },
    ],
    finish: () => undefined,
  });
  return { header: join(folder, "nvidia", "cu13", "include", "nvml.h"), python: folder };
}

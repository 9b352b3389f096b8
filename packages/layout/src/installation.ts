import { existsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { FarpoolError } from "@farpool/contract";

/** The built parts (ARCHITECTURE 3, `dist/`). */
export interface Installation {
  readonly root: string;
  readonly acceptor: string;
  readonly worker: string;
  /** Folder for the loader path of client processes. */
  readonly shimFolder: string;
  readonly simulatedDriver: string;
  /** For `LD_AUDIT`: leads programs that load libcuda by its path to the shim. */
  readonly audit: string;
  /** Our nvidia-smi, by that name. */
  readonly nvidiaSmi: string;
  /** What Node cannot do by itself (packages/os loads it). */
  readonly addOn: string;
  readonly cli: string;
}

/**
 * Looks upwards from the running file: `dist/cli/…` when built, `apps/cli/src/…` during development.
 * `FARPOOL_DIST` names another folder with the same layout.
 */
export function findInstallation(from: string = import.meta.url): Installation {
  const given = process.env["FARPOOL_DIST"];
  if (given !== undefined && given !== "") return at(resolve(given));
  let folder = dirname(fileURLToPath(from));
  for (;;) {
    for (const root of [folder, join(folder, "dist")]) {
      if (existsSync(join(root, "bin/farpool-worker")) || existsSync(join(root, "cli/farpool.mjs")))
        return at(root);
    }
    const parent = dirname(folder);
    if (parent === folder) break;
    folder = parent;
  }
  throw new FarpoolError(
    "FARPOOL_UNAVAILABLE",
    `the built parts of farpool are not found above ${fileURLToPath(from)}`,
    {
      hint: "in a checkout, 'npm run build' builds them into dist/",
    },
  );
}

function at(root: string): Installation {
  return {
    root,
    acceptor: join(root, "bin/farpool-acceptor"),
    worker: join(root, "bin/farpool-worker"),
    shimFolder: join(root, "lib/shim"),
    audit: join(root, "lib/audit/libfarpool-audit.so"),
    simulatedDriver: join(root, "lib/simgpu/libcuda.so.1"),
    nvidiaSmi: join(root, "compat/nvidia-smi"),
    addOn: join(root, "lib/farpool-os.node"),
    cli: join(root, "cli/farpool.mjs"),
  };
}

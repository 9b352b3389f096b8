import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { InstalledFile } from "./units.ts";

const NAME = "nvidia-smi";
const FOLDER = "/usr/local/bin";
const OTHERS = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
const MARK = "# of farpool's client service";

/** `nvidia-smi` for machines that have none: ours. Undefined: there is one, of NVIDIA's driver or of somebody's own. */
export function smiFile(program: string, read = readOrUndefined): InstalledFile | undefined {
  if (OTHERS.some((folder) => read(join(folder, NAME)) !== undefined)) return undefined;
  const path = join(FOLDER, NAME);
  const there = read(path);
  if (there !== undefined && !there.includes(MARK)) return undefined;
  const quoted = `'${program.replaceAll("'", `'\\''`)}'`;
  return { path, text: `#!/bin/sh\n${MARK}\nexec ${quoted} "$@"\n`, mode: 0o755 };
}

function readOrUndefined(path: string): string | undefined {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return undefined;
  }
}

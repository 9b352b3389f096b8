import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/** systemd makes it at the first start of a machine, also of one that was made from an image. */
const FILE = "/etc/machine-id";

/**
 * By what a machine is told from its copies: a hash, as machine-id(5) wants it that applications do not show the id itself.
 * Null where the machine has none.
 */
export function readMachineIdentity(
  file: string = process.env["FARPOOL_MACHINE_ID_FILE"] ?? FILE,
): string | null {
  try {
    const id = readFileSync(file, "utf8").trim();
    if (!/^[0-9a-f]{32}$/.test(id)) return null;
    return createHash("sha256").update(`farpool machine ${id}`).digest("base64url");
  } catch {
    return null;
  }
}

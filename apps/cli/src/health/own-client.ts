import { readFileSync } from "node:fs";
import type { Thumbprint } from "@farpool/contract";
import { importSigningKey } from "@farpool/identity";
import { clientKeyFile, poolFolders } from "@farpool/layout";

/** By what the pool knows this client; undefined before its first session. Makes nothing. */
export function ownThumbprint(): Thumbprint | undefined {
  try {
    return importSigningKey(readFileSync(clientKeyFile(poolFolders()), "utf8")).thumbprint;
  } catch {
    return undefined;
  }
}

import { createHash, randomBytes } from "node:crypto";

/** 256 random bits, so a plain hash of them at rest is enough: nobody tries them all. */
export function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("base64url");
}

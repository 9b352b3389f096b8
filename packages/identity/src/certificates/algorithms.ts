import { randomBytes } from "node:crypto";

/** ECDSA P-256: what every TLS library verifies. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
export const SIGNATURE_ALGORITHM = { name: "ECDSA", hash: "SHA-256" } as const;

/** 127 random bits: positive, and never used twice. */
export function serialNumber(): string {
  const bytes = randomBytes(16);
  // A first byte from 0x40 on needs no zero before it, and is never zero itself.
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString("hex");
}

import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { publicKeySchema, thumbprintSchema, type PublicKey, type Thumbprint } from "@farpool/contract";

/** A key pair that signs grants: the manager's, or a client machine's. */
export interface SigningKey {
  readonly publicKey: PublicKey;
  readonly thumbprint: Thumbprint;
  readonly privateKey: KeyObject;
}

export function generateSigningKey(): SigningKey {
  return toSigningKey(generateKeyPairSync("ed25519").privateKey);
}

/** PKCS#8, as it is kept in a file or a database. */
export function exportSigningKey({ privateKey }: SigningKey): string {
  return privateKey.export({ type: "pkcs8", format: "pem" }).toString();
}

/** Throws when the text is no private key of Ed25519. */
export function importSigningKey(pem: string): SigningKey {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== "ed25519")
    throw new Error(`the key is of the type ${key.asymmetricKeyType ?? "unknown"}, expected ed25519`);
  return toSigningKey(key);
}

function toSigningKey(privateKey: KeyObject): SigningKey {
  const { kty, crv, x } = createPublicKey(privateKey).export({ format: "jwk" });
  const publicKey = publicKeySchema.parse({ kty, crv, x });
  return { publicKey, thumbprint: thumbprintOf(publicKey), privateKey };
}

/** RFC 7638: the SHA-256 of the key's members in the order of the alphabet, without spaces. */
export function thumbprintOf({ kty, crv, x }: PublicKey): Thumbprint {
  const canonical = JSON.stringify({ crv, kty, x });
  return thumbprintSchema.parse(createHash("sha256").update(canonical).digest("base64url"));
}

import "reflect-metadata";
import { createHash, createPublicKey, webcrypto, type X509Certificate } from "node:crypto";
import { FarpoolError, type MachineRole, type PublicKey } from "@farpool/contract";
import * as x509 from "@peculiar/x509";
import type { Authority } from "./authority.ts";
import { signLeaf } from "./leaf.ts";

const DAY_SECONDS = 86_400;
/** Renewed at half of it. */
export const MACHINE_CERTIFICATE_SECONDS = 30 * DAY_SECONDS;
/** A machine that was switched off for a holiday, or for a term, comes back by itself. */
export const RENEWABLE_AFTER_EXPIRY_SECONDS = 180 * DAY_SECONDS;

/** No name server knows these: a certificate says what a machine is, wherever it is. */
const SUFFIX = { server: "server.machines.farpool.internal", client: "client.machines.farpool.internal" };

export interface MachineSubject {
  readonly machineId: string;
  readonly role: MachineRole;
}

export interface SignedMachineCertificate {
  readonly certificate: string;
  readonly serial: string;
  readonly expiresAt: Date;
}

/** A certificate by which a machine that has joined proves itself to managers. */
export async function signMachineCertificate(
  authority: Authority,
  { machineId, role, publicKey, now }: MachineSubject & { publicKey: PublicKey; now: Date },
): Promise<SignedMachineCertificate> {
  const key = await webcrypto.subtle.importKey("jwk", publicKey, { name: "Ed25519" }, true, ["verify"]);
  const name = `${machineId}.${SUFFIX[role]}`;
  const signed = await signLeaf(authority, key, {
    subject: `CN=${name}`,
    now,
    validSeconds: MACHINE_CERTIFICATE_SECONDS,
    names: [{ type: "dns", value: name }],
    purpose: x509.ExtendedKeyUsage.clientAuth,
  });
  return {
    certificate: `${signed.toString("pem")}\n`,
    serial: signed.serialNumber,
    expiresAt: signed.notAfter,
  };
}

/** What a certificate says that a peer has shown, and proved in the handshake to hold the key of. */
export interface ShownCertificate extends MachineSubject {
  readonly serial: string;
  readonly expiresAt: Date;
  readonly beginsAt: Date;
}

/** Undefined when it is not of this authority, or no machine's. Times are for the caller to judge. */
export function readMachineCertificate(
  shown: X509Certificate,
  authority: X509Certificate,
): ShownCertificate | undefined {
  if (!shown.checkIssued(authority) || !shown.verify(authority.publicKey)) return undefined;
  const match = /^DNS:([0-9a-f-]{36})\.(server|client)\.machines\.farpool\.internal$/.exec(
    shown.subjectAltName ?? "",
  );
  const [machineId, role] = [match?.[1], match?.[2]];
  if (machineId === undefined || (role !== "server" && role !== "client")) return undefined;
  return {
    machineId,
    role,
    serial: shown.serialNumber.toLowerCase(),
    beginsAt: shown.validFromDate,
    expiresAt: shown.validToDate,
  };
}

/** What a join string says of the authority: SHA-256 of its certificate (DER), base64url. */
export function authorityHash(certificate: Uint8Array): string {
  return createHash("sha256").update(certificate).digest("base64url");
}

/** A JWK of Ed25519 as Node's own key. */
export function nodePublicKey(publicKey: PublicKey): ReturnType<typeof createPublicKey> {
  try {
    return createPublicKey({ key: { ...publicKey }, format: "jwk" });
  } catch (cause) {
    throw new FarpoolError("FARPOOL_BAD_REQUEST", "publicKey is not a public key of Ed25519", { cause });
  }
}

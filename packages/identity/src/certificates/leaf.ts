import "reflect-metadata";
import { createPublicKey, webcrypto, type KeyObject } from "node:crypto";
import { FarpoolError, type ServerId } from "@farpool/contract";
import * as x509 from "@peculiar/x509";
import { CLOCK_LEEWAY_SECONDS } from "../grants.ts";
import { KEY_ALGORITHM, SIGNATURE_ALGORITHM, serialNumber } from "./algorithms.ts";
import type { Authority } from "./authority.ts";

/** One day: a server that is given up is not trusted for longer. */
export const WORKER_CERTIFICATE_SECONDS = 86_400;

/** The name under which the workers of a server prove themselves; no name server knows it. */
export function workerHostName(serverId: ServerId): string {
  return `${serverId}.servers.farpool.internal`;
}

/** What a leaf says beside its key; times are seconds of validity from now on. */
export interface LeafContent {
  readonly subject: string;
  readonly now: Date;
  readonly validSeconds: number;
  readonly names: x509.JsonGeneralNames;
  readonly purpose: x509.ExtendedKeyUsage;
}

/** A certificate for the workers of one server, for a key pair that its agent made: PEM. */
export async function signWorkerCertificate(
  authority: Authority,
  { serverId, publicKey, now }: { serverId: ServerId; publicKey: string; now: Date },
): Promise<string> {
  const spki = checkedKey(publicKey).export({ type: "spki", format: "der" });
  const key = await webcrypto.subtle.importKey("spki", spki, KEY_ALGORITHM, true, ["verify"]);
  const name = workerHostName(serverId);
  const certificate = await signLeaf(authority, key, {
    subject: `CN=${name}`,
    now,
    validSeconds: WORKER_CERTIFICATE_SECONDS,
    names: [{ type: "dns", value: name }],
    purpose: x509.ExtendedKeyUsage.serverAuth,
  });
  return `${certificate.toString("pem")}\n`;
}

export async function signLeaf(
  authority: Authority,
  key: webcrypto.CryptoKey,
  { subject, now, validSeconds, names, purpose }: LeafContent,
): Promise<x509.X509Certificate> {
  return x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject,
      issuer: authority.certificate.subject,
      notBefore: new Date(now.getTime() - CLOCK_LEEWAY_SECONDS * 1_000),
      notAfter: new Date(now.getTime() + validSeconds * 1_000),
      signingAlgorithm: SIGNATURE_ALGORITHM,
      publicKey: key,
      signingKey: authority.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([purpose]),
        new x509.SubjectAlternativeNameExtension(names),
        await x509.AuthorityKeyIdentifierExtension.create(authority.certificate.publicKey, false, webcrypto),
        await x509.SubjectKeyIdentifierExtension.create(key, false, webcrypto),
      ],
    },
    webcrypto,
  );
}

function checkedKey(publicKey: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(publicKey, "base64"), format: "der", type: "spki" });
  } catch (cause) {
    throw new FarpoolError("FARPOOL_BAD_REQUEST", "publicKey is not a public key (SPKI, DER, base64)", {
      cause,
    });
  }
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (curve === "prime256v1") return key;
  throw new FarpoolError(
    "FARPOOL_BAD_REQUEST",
    `publicKey is a key of ${curve ?? key.asymmetricKeyType ?? "an unknown kind"}, expected ECDSA P-256`,
  );
}

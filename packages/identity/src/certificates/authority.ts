import "reflect-metadata";
import { webcrypto } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { CLOCK_LEEWAY_SECONDS } from "../grants.ts";
import { KEY_ALGORITHM, SIGNATURE_ALGORITHM, serialNumber } from "./algorithms.ts";

const YEARS = 10;

/** A pool's certificate authority, as it is kept: both PEM. */
export interface AuthorityText {
  readonly certificate: string;
  /** PKCS#8. */
  readonly privateKey: string;
}

export interface Authority {
  readonly certificate: x509.X509Certificate;
  readonly privateKey: webcrypto.CryptoKey;
}

/** A new authority that signs the certificates of the pool's servers, and nothing below it signs any. */
export async function createAuthority(poolId: string, now: Date): Promise<AuthorityText> {
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const until = new Date(now);
  until.setUTCFullYear(until.getUTCFullYear() + YEARS);
  const name = `CN=Farpool pool ${poolId}`;
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: name,
      issuer: name,
      notBefore: new Date(now.getTime() - CLOCK_LEEWAY_SECONDS * 1_000),
      notAfter: until,
      signingAlgorithm: SIGNATURE_ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certificate: `${certificate.toString("pem")}\n`,
    privateKey: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

export async function openAuthority({ certificate, privateKey }: AuthorityText): Promise<Authority> {
  const [pkcs8] = x509.PemConverter.decode(privateKey);
  if (pkcs8 === undefined) throw new Error("the private key of the certificate authority is no PEM");
  return {
    certificate: new x509.X509Certificate(certificate),
    privateKey: await webcrypto.subtle.importKey("pkcs8", pkcs8, KEY_ALGORITHM, false, ["sign"]),
  };
}

/** DER, base64: what those who trust the authority need. */
export function authorityDer({ certificate }: Pick<Authority, "certificate">): string {
  return Buffer.from(certificate.rawData).toString("base64");
}

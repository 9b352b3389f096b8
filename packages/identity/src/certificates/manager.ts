import "reflect-metadata";
import { isIP } from "node:net";
import { webcrypto } from "node:crypto";
import { MANAGER_TLS_NAME } from "@farpool/contract";
import * as x509 from "@peculiar/x509";
import { KEY_ALGORITHM } from "./algorithms.ts";
import type { Authority } from "./authority.ts";
import { signLeaf } from "./leaf.ts";

export const MANAGER_CERTIFICATE_SECONDS = 30 * 86_400;

export interface ManagerCertificate {
  /** The leaf, then the authority: who joins looks at the second. */
  readonly chain: string;
  readonly privateKey: string;
}

/**
 * A certificate for a manager's HTTPS, for a key that lives as long as its process. Machines of the pool look for one name
 * that only managers get, so they reach it by any address; the host names are for browsers.
 */
export async function createManagerCertificate(
  authority: Authority,
  { hosts, now }: { readonly hosts: readonly string[]; readonly now: Date },
): Promise<ManagerCertificate> {
  const keys = await webcrypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const leaf = await signLeaf(authority, keys.publicKey, {
    subject: `CN=${MANAGER_TLS_NAME}`,
    now,
    validSeconds: MANAGER_CERTIFICATE_SECONDS,
    names: [
      { type: "dns", value: MANAGER_TLS_NAME },
      ...hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
    ],
    purpose: x509.ExtendedKeyUsage.serverAuth,
  });
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    chain: `${leaf.toString("pem")}\n${authority.certificate.toString("pem")}\n`,
    privateKey: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

import { generateKeyPairSync, randomUUID, X509Certificate } from "node:crypto";
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { serverIdSchema } from "@farpool/contract";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { authorityDer, createAuthority, openAuthority } from "./authority.ts";
import { signWorkerCertificate } from "./leaf.ts";

const NOW = new Date("2026-11-30T12:00:00Z");
const serverId = serverIdSchema.parse("6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f");

function spki(curve: "P-256" | "P-384"): string {
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: curve });
  return publicKey.export({ type: "spki", format: "der" }).toString("base64");
}

async function issue() {
  const text = await createAuthority(randomUUID(), NOW);
  const authority = await openAuthority(text);
  const leaf = await signWorkerCertificate(authority, { serverId, publicKey: spki("P-256"), now: NOW });
  return { text, authority, leaf };
}

test("an authority lasts ten years, a leaf one day; both began ten minutes ago", async () => {
  const { text, authority, leaf } = await issue();
  const [ca, worker] = [new X509Certificate(text.certificate), new X509Certificate(leaf)];
  expect(ca.validFromDate).toEqual(new Date("2026-11-30T11:50:00Z"));
  expect(ca.validToDate).toEqual(new Date("2036-11-30T12:00:00Z"));
  expect(ca.ca).toBe(true);
  expect(worker.validFromDate).toEqual(new Date("2026-11-30T11:50:00Z"));
  expect(worker.validToDate).toEqual(new Date("2026-12-01T12:00:00Z"));
  expect(worker.subjectAltName).toBe(`DNS:${serverId}.servers.farpool.internal`);
  expect(worker.checkIssued(ca)).toBe(true);
  expect(worker.verify(ca.publicKey)).toBe(true);
  expect(Buffer.from(authorityDer(authority), "base64")).toEqual(ca.raw);
});

test("OpenSSL follows the chain to the authority, for a server's name and a server's purpose only", async () => {
  const { text, leaf } = await issue();
  const other = await createAuthority(randomUUID(), NOW);
  using folder = temporaryFolder();
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder.path, name), content);
    return join(folder.path, name);
  };
  const verify = (
    authority: string,
    purpose: string,
    host = `${serverId}.servers.farpool.internal`,
  ): string => {
    const at = String(NOW.getTime() / 1_000);
    const words = ["verify", "-attime", at, "-x509_strict", "-purpose", purpose, "-verify_hostname", host];
    const files = ["-CAfile", file("ca.pem", authority), file("leaf.pem", leaf)];
    return execFileSync("openssl", [...words, ...files], { encoding: "utf8", stdio: "pipe" });
  };
  expect(verify(text.certificate, "sslserver")).toContain("leaf.pem: OK");
  expect(() => verify(text.certificate, "sslclient")).toThrow("unsuitable certificate purpose");
  expect(() => verify(text.certificate, "sslserver", "elsewhere")).toThrow("hostname mismatch");
  expect(() => verify(other.certificate, "sslserver")).toThrow("unable to get local issuer certificate");
});

test("only a key of the agreed kind gets a certificate", async () => {
  const { authority } = await issue();
  const sign = (publicKey: string) => signWorkerCertificate(authority, { serverId, publicKey, now: NOW });
  await expect(sign(spki("P-384"))).rejects.toThrow("is a key of secp384r1, expected ECDSA P-256");
  await expect(sign("AAAA")).rejects.toThrow("publicKey is not a public key");
});

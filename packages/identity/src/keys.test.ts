import { generateKeyPairSync } from "node:crypto";
import { publicKeySchema } from "@farpool/contract";
import { calculateJwkThumbprint } from "jose";
import { expect, test } from "vitest";
import { exportSigningKey, generateSigningKey, importSigningKey, thumbprintOf } from "./keys.ts";
import { endToken, routingToken } from "./routing.ts";
import { connectionIdSchema } from "@farpool/contract";

test("a key that was kept is the same key", () => {
  const key = generateSigningKey();
  const again = importSigningKey(exportSigningKey(key));
  expect(again.publicKey).toEqual(key.publicKey);
  expect(again.thumbprint).toBe(key.thumbprint);
});

test("thumbprints are those of RFC 7638; the example of RFC 8037", async () => {
  const x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
  const key = publicKeySchema.parse({ kty: "OKP", crv: "Ed25519", x });
  expect(thumbprintOf(key)).toBe("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
  expect(thumbprintOf(key)).toBe(await calculateJwkThumbprint(key));
});

test("another kind of key is refused by name", () => {
  const { privateKey } = generateKeyPairSync("x25519");
  const pem = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  expect(() => importSigningKey(pem)).toThrow("of the type x25519, expected ed25519");
});

test("one key has one spelling", () => {
  // The last character of the example with its spare bits set: the same 32 bytes to a careless decoder.
  const spelt = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURp" };
  expect(publicKeySchema.safeParse(spelt).success).toBe(false);
});

test("tokens depend on secret, connection and purpose", () => {
  const secret = "42".repeat(32);
  const connection = connectionIdSchema.parse("000102030405060708090a0b0c0d0e0f");
  const route = routingToken(secret, connection).toString("hex");
  // printf 'farpool route' and the sixteen bytes, through: openssl dgst -sha256 -mac HMAC -macopt hexkey:4242…
  expect(route).toBe("da98ca306e6f6f5499113adc1a5e520564d7f1b618e859d2429be505001a2d1d");
  expect(endToken(secret, connection).toString("hex")).toBe(
    "1cd15cb39ffe3900325044feaf19770aa49c3a4c1a9a1743ff365297f1fa7b7a",
  );
});

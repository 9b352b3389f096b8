import { createPrivateKey } from "node:crypto";
import { connectionIdSchema, serverIdSchema, sessionIdSchema } from "@farpool/contract";
import { compactVerify, importJWK } from "jose";
import { expect, test } from "vitest";
import { readClaims, signProcessGrant, signSessionGrant, type SessionGrantClaims } from "./grants.ts";
import { importSigningKey, type SigningKey } from "./keys.ts";

/** Ed25519 signs the same bytes the same way, so these grants are the same on every run. */
const SEEDS = { manager: "11".repeat(32), client: "22".repeat(32), other: "33".repeat(32) };
const NOW = 1_796_040_000;
const poolId = "0f8fad5b-d9cb-469f-a165-70867728950e";
const sessionId = sessionIdSchema.parse("s-7f3k2m9q");
const serverId = serverIdSchema.parse("6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f");
const connectionId = connectionIdSchema.parse("000102030405060708090a0b0c0d0e0f");
/** SPKI of an Ed25519 key: a fixed prefix and 32 bytes. */
const processKey = Buffer.from(`302a300506032b6570032100${"44".repeat(32)}`, "hex");

function keyOf(seed: string): SigningKey {
  const der = Buffer.from(`302e020100300506032b657004220420${seed}`, "hex");
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  return importSigningKey(key.export({ type: "pkcs8", format: "pem" }).toString());
}

const manager = keyOf(SEEDS.manager);
const client = keyOf(SEEDS.client);
const other = keyOf(SEEDS.other);

const session = (changes: Partial<SessionGrantClaims> = {}, key = manager): Promise<string> =>
  signSessionGrant(key, {
    ...{ poolId, sessionId, serverId, client: client.thumbprint, clientName: "ws-17", user: "dev1" },
    ...{ signedAt: NOW - 30, ...changes },
  });

type Changes = Partial<Parameters<typeof signProcessGrant>[1]>;

const process_ = async (changes: Changes = {}, key = client): Promise<string> =>
  signProcessGrant(key, {
    ...{ sessionGrant: await session(), connectionId, processKey },
    ...{ uid: 1000, pid: 4711, start: 987_654, program: "train", signedAt: NOW - 3, ...changes },
  });

test("the grants that the workers' tests check are those that we sign", async () => {
  const grants: ReadonlyArray<readonly [string, string, string]> = [
    ["good", "ok", await process_()],
    ["good-without-names", "ok", await process_({ sessionGrant: await anonymous() })],
    ["good-to-the-last-second", "ok", await process_({ signedAt: NOW - 59 })],
    ["good-from-a-clock-ahead", "ok", await process_({ signedAt: NOW + 600 })],
    ["program-with-many-languages", "ok", await process_({ program: 'größe "λ"\n\u{1f4be}' })],
    ["process-expired", "expired", await process_({ signedAt: NOW - 60 })],
    ["process-too-early", "notYetValid", await process_({ signedAt: NOW + 601 })],
    ["session-expired", "expired", await inside({ signedAt: NOW - 900 })],
    ["session-too-early", "notYetValid", await inside({ signedAt: NOW + 601 })],
    ["other-session", "foreignSession", await inside({ sessionId: sessionIdSchema.parse("s-22222222") })],
    ["other-server", "foreignServer", await inside({ serverId: serverIdSchema.parse(poolId) })],
    [
      "other-connection",
      "foreignConnection",
      await process_({ connectionId: connectionIdSchema.parse("f".repeat(32)) }),
    ],
    ["other-process-key", "foreignPeer", await process_({ processKey: Buffer.alloc(44, 5) })],
    ["other-client-key", "foreignKey", await inside({ client: other.thumbprint })],
    ["stolen-session-grant", "foreignKey", await process_({}, other)],
    ["made-up-manager", "unknownManagerKey", await process_({ sessionGrant: await session({}, other) })],
    ["made-up-signature", "signature", await process_({ sessionGrant: await session({}, impostor()) })],
    ["a-session-grant-alone", "type", await session()],
    ["a-process-grant-inside", "type", await process_({ sessionGrant: await process_() })],
  ];
  const vectors = {
    comment: "Written by packages/identity/src/grants.test.ts; the keys are for these tests only.",
    now: NOW,
    sessionId,
    serverId,
    connectionId,
    managerKeys: [{ kid: manager.thumbprint, x: manager.publicKey.x }],
    clientKey: client.thumbprint,
    processKey: processKey.toString("hex"),
    uid: 1000,
    pid: 4711,
    start: 987_654,
    seeds: { manager: SEEDS.manager, client: SEEDS.client },
    grants: grants.map(([name, outcome, grant]) => ({ name, outcome, grant })),
  };
  await expect(`${JSON.stringify(vectors, null, 2)}\n`).toMatchFileSnapshot(
    "../../../native/grant/tests/vectors.json",
  );
  for (const [name, , grant] of grants.filter(([, outcome]) => outcome === "ok"))
    await expect(grant).toMatchFileSnapshot(`../../../native/grant/corpus/${name}.jws`);
});

/** A session grant with other claims in a good process grant. */
async function inside(changes: Partial<SessionGrantClaims>): Promise<string> {
  return process_({ sessionGrant: await session(changes) });
}

function anonymous(): Promise<string> {
  const claims = { poolId, sessionId, serverId, client: client.thumbprint, signedAt: NOW - 30 };
  return signSessionGrant(manager, claims);
}

/** Another key that says it is the manager's. */
function impostor(): SigningKey {
  return { ...other, thumbprint: manager.thumbprint };
}

test("another library reads a session grant: header, times and signature", async () => {
  const { protectedHeader, payload } = await compactVerify(
    await session(),
    await importJWK(manager.publicKey, "EdDSA"),
  );
  expect(protectedHeader).toEqual({ alg: "EdDSA", typ: "farpool-session+jwt", kid: manager.thumbprint });
  const claims: unknown = JSON.parse(new TextDecoder().decode(payload));
  expect(claims).toMatchObject({
    iat: NOW - 30,
    nbf: NOW - 630,
    exp: NOW + 870,
    cnf: { jkt: client.thumbprint },
  });
});

test("a process grant holds the session grant and names the process", async () => {
  const grant = await process_();
  expect(readClaims(grant)).toMatchObject({ session: await session(), cid: connectionId, exp: NOW + 57 });
});

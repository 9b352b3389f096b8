import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { join } from "node:path";
import { createClient } from "@farpool/client-api";
import { TIMES, type Session, type SessionRequest } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { readClaims } from "@farpool/identity/grants";
import { startTestServer, temporaryFolder, type TestServer } from "@farpool/testkit";
import { compactVerify, decodeProtectedHeader, importJWK } from "jose";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../database/connect.ts";
import { migrate } from "../database/migrate.ts";
import { startManager } from "../manager.ts";
import { ask, CLIENT, startPool, type TestPool } from "../testing/pool.ts";
import { openPoolIdentity } from "./pool-identity.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

async function activeSession(pool: TestPool, request: Partial<SessionRequest> = {}): Promise<Session> {
  const session = await ask(pool.client, 1, request);
  await pool.obey();
  return pool.client.call("showSession", { params: { sessionId: session.id } });
}

const revoke = (pool: TestPool, thumbprint = CLIENT.thumbprint, reason: string | null = "lost laptop") =>
  pool.client.call("revokeClient", { params: { thumbprint }, body: { reason } });

test("managers that start at once on one database agree on its keys, and later ones find them", async () => {
  const connection = await postgres.createDatabase();
  const open = async () => {
    const db = connect(connection, () => undefined);
    await migrate(db);
    const identity = await openPoolIdentity(db, () => undefined);
    identity.stop();
    await db.destroy();
    return identity;
  };
  const identities = [...(await Promise.all([open(), open(), open(), open()])), await open()];
  const distinct = (of: (identity: (typeof identities)[number]) => unknown): number =>
    new Set(identities.map(of)).size;
  expect(distinct(({ poolId }) => poolId)).toBe(1);
  expect(distinct(({ authorities }) => authorities().ders[0])).toBe(1);
  expect(distinct(({ grantKey }) => grantKey.thumbprint)).toBe(1);
});

test("an agent gets a certificate for its key, which the authority told to clients has signed", async () => {
  const pool = await startPool(postgres, 1);
  const session = await activeSession(pool);
  const { publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const { chain, validSeconds } = await pool.client.call("certifyAgent", {
    params: { serverId: pool.serverId },
    body: { publicKey: publicKey.export({ type: "spki", format: "der" }).toString("base64") },
  });
  const { authorities, serverId } = await pool.client.call("connectSession", {
    params: { sessionId: session.id },
  });
  const leaf = new X509Certificate(chain);
  expect(leaf.verify(new X509Certificate(Buffer.from(authorities[0] ?? "", "base64")).publicKey)).toBe(true);
  expect(leaf.subjectAltName).toBe(`DNS:${serverId}.servers.farpool.internal`);
  expect(leaf.publicKey.equals(publicKey)).toBe(true);
  expect(validSeconds).toBe(86_400);
});

test("a broker gets a grant for its own key, signed by a key that the servers are told", async () => {
  const pool = await startPool(postgres, 1);
  const session = await activeSession(pool);
  const params = { sessionId: session.id };
  const first = await pool.client.call("connectSession", { params });
  const { grant, validSeconds } = await pool.client.call("grantSession", { params, query: {} });
  const { trust, sessions } = await pool.client.call("watchDesired", {
    params: { serverId: pool.serverId },
    query: { revision: 0 },
  });
  const { kid } = decodeProtectedHeader(grant);
  const key = trust.managerKeys.find((candidate) => candidate.kid === kid);
  await compactVerify(grant, await importJWK({ kty: "OKP", crv: "Ed25519", x: key?.x ?? "" }, "EdDSA"));
  const claims = {
    sub: session.id,
    aud: pool.serverId,
    cnf: { jkt: CLIENT.thumbprint },
    user: "dev1",
    client: "ws-17",
  };
  expect(readClaims(grant)).toMatchObject(claims);
  expect(readClaims(first.grant.grant)).toMatchObject(claims);
  expect(validSeconds).toBe(900);
  expect(first).toMatchObject({ graceSeconds: 120, serverId: pool.serverId });
  expect(sessions).toMatchObject([{ id: session.id, graceSeconds: 120 }]);
});

test("there is no grant for a session that waits or has ended", async () => {
  const pool = await startPool(postgres, 1);
  const session = await activeSession(pool);
  const waiting = await ask(pool.client, 1);
  const grant = ({ id }: Session) =>
    pool.client.call("grantSession", { params: { sessionId: id }, query: {} });
  await expect(grant(waiting)).rejects.toMatchObject({ code: "FARPOOL_CONFLICT" });
  await pool.client.call("endSession", { params: { sessionId: session.id }, body: { reason: "finished" } });
  await expect(grant(session)).rejects.toMatchObject({ code: "FARPOOL_SESSION_ENDED" });
});

test("a revoked client loses its sessions, gets no new ones, and servers hear of it within a second", async () => {
  const pool = await startPool(postgres, 3);
  const session = await activeSession(pool);
  const bystander = await activeSession(pool, { clientKey: generateSigningKey().publicKey });
  const params = { serverId: pool.serverId };
  const { revision } = await pool.client.call("watchDesired", { params, query: { revision: 0 } });
  const told = pool.client.call("watchDesired", { params, query: { revision } }, { timeoutMs: 30_000 });
  const startedAt = Date.now();
  expect(await revoke(pool)).toMatchObject({ revokedReason: "lost laptop", sessions: 0 });
  const { trust, sessions } = await told;
  expect(Date.now() - startedAt).toBeLessThan(1_000);
  expect(trust.revoked).toEqual([CLIENT.thumbprint]);
  expect(sessions.map(({ id }) => id)).toEqual([bystander.id]);
  expect(await pool.client.call("showSession", { params: { sessionId: session.id } })).toMatchObject({
    state: "ended",
    endReason: "revoked",
    endMessage: "the client ws-17 was revoked by an administrator: lost laptop",
  });
  await expect(ask(pool.client, 1)).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: expect.stringMatching(/^this client \(key \S{43}\) was revoked at \S+: lost laptop$/),
  });
  await pool.restart();
  await expect(ask(pool.client, 1)).rejects.toMatchObject({ code: "FARPOOL_NOT_PERMITTED" });
});

test("servers that hold nothing of a revoked client are told of it too, by any manager", async () => {
  const pool = await startPool(postgres, 1);
  await activeSession(pool);
  using folder = temporaryFolder();
  const socketPath = join(folder.path, "second.sock");
  const second = await startManager({
    connection: pool.database,
    databaseKind: "external",
    socketPath,
    tcp: null,
    tokenFile: join(folder.path, "token"),
    graceMs: TIMES.graceMs,
    logger: pino({ level: "silent" }),
  });
  const client = createClient({ kind: "unix", path: socketPath });
  const other = generateSigningKey();
  await pool.client.call("endSession", {
    params: { sessionId: (await ask(pool.client, 1, { clientKey: other.publicKey })).id },
    body: { reason: "cancelled" },
  });
  const params = { serverId: pool.serverId };
  const { revision } = await client.call("watchDesired", { params, query: { revision: 0 } });
  const told = client.call("watchDesired", { params, query: { revision } }, { timeoutMs: 30_000 });
  await revoke(pool, other.thumbprint, null);
  expect((await told).trust.revoked).toEqual([other.thumbprint]);
  client.close();
  await second.stop();
});

test("a revocation is done once; a key that nobody has is not found", async () => {
  const pool = await startPool(postgres, 1);
  await activeSession(pool);
  const first = await revoke(pool);
  expect(await revoke(pool, CLIENT.thumbprint, "again")).toEqual(first);
  await expect(revoke(pool, generateSigningKey().thumbprint)).rejects.toMatchObject({
    code: "FARPOOL_NOT_FOUND",
  });
});

test("clients are listed by their keys, with the sessions they have", async () => {
  const pool = await startPool(postgres, 1);
  await activeSession(pool);
  await ask(pool.client, 1);
  expect(await pool.client.call("listClients", {})).toMatchObject({
    clients: [{ thumbprint: CLIENT.thumbprint, name: "ws-17", user: "dev1", sessions: 2, revokedAt: null }],
  });
});

test("the audit tells starts, ends, refusals and revocations, newest first, each once", async () => {
  const pool = await startPool(postgres, 1);
  const session = await activeSession(pool);
  const seenAt = Date.now();
  const refusal = {
    id: "6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f",
    at: new Date(seenAt).toISOString(),
    sessionId: session.id,
    connectionId: "f".repeat(32),
    peer: "192.0.2.7:40000",
    reason: "the session grant expired 12 s ago",
  };
  await pool.obey({ refusals: [refusal] });
  const at = new Date(seenAt + 1).toISOString();
  const other = { id: pool.serverId, at, sessionId: null, reason: "a\0b" };
  // The answer was lost, say: the agent sends it again.
  await pool.obey({
    refusals: [refusal, { ...refusal, ...other }],
  });
  await revoke(pool);
  const { entries } = await pool.client.call("audit", { query: {} });
  const client = { client: CLIENT.thumbprint, clientName: "ws-17", user: "dev1" };
  expect(entries).toMatchObject([
    {
      kind: "session-ended",
      sessionId: session.id,
      ...client,
      reason: expect.stringContaining("lost laptop"),
    },
    { kind: "client-revoked", ...client, reason: "dev1@ws-17 was revoked by an administrator: lost laptop" },
    { kind: "refused", sessionId: null, serverName: "gpu-01", reason: "a?b" },
    { kind: "refused", sessionId: session.id, serverName: "gpu-01", peer: "192.0.2.7:40000", client: null },
    { kind: "session-started", sessionId: session.id, ...client, serverName: "gpu-01" },
    { kind: "client-seen", ...client },
  ]);
  expect((await pool.client.call("audit", { query: { last: 2 } })).entries).toEqual(entries.slice(0, 2));
});

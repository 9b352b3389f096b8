import { startTestServer, type TestServer } from "@farpool/testkit";
import { generateSigningKey } from "@farpool/identity";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../database/connect.ts";
import { settleUsage } from "../usage/settle.ts";
import { ask, startPool, type TestPool } from "../testing/pool.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

const OTHER = generateSigningKey();

/** One session of each: begun, used, ended, and all of it recorded. */
async function useOnce(pool: TestPool, user: string, clientKey = OTHER.publicKey): Promise<string> {
  const { id } = await ask(pool.client, 1, { user, clientKey, labels: { paper: user } });
  await pool.obey();
  const worker = {
    ...{ pid: 7, connectionId: "0".repeat(32), clientPid: 42, program: `/home/${user}/train` },
    ...{ sandbox: [], startedAt: new Date().toISOString(), endedAt: null, exit: null, report: null },
  };
  await pool.obey({ workers: [{ sessionId: id, worker }] } as never);
  await pool.client.call("endSession", { params: { sessionId: id }, body: { reason: "finished" } });
  await pool.obey();
  const db = connect(pool.database, () => undefined);
  await settleUsage(db);
  await db.destroy();
  return id;
}

test("a person's data are exported whole, and nobody else's", async () => {
  const pool = await startPool(postgres, 2);
  const hers = await useOnce(pool, "alice");
  await useOnce(pool, "alicia");
  await pool.client.call("setBudget", {
    body: { scope: "user", subject: "alice@ws-17", amount: 10_000, action: "warn" },
  });
  const data = await pool.client.call("exportPerson", { query: { name: "alice@ws-17" } });
  expect(data).toMatchObject({ name: "alice@ws-17", account: null, places: ["alice@ws-17"] });
  expect(data.sessions.map(({ id }) => id)).toEqual([hers]);
  expect(data.sessions[0]?.processes).toMatchObject([{ program: "/home/alice/train" }]);
  expect(new Set(data.usageRecords.map(({ sessionId }) => sessionId))).toEqual(new Set([hers]));
  expect(new Set(data.processRecords.map(({ account }) => account))).toEqual(new Set(["alice"]));
  expect(data.budgets).toEqual([{ amount: 10_000, action: "warn" }]);
  expect(JSON.stringify(data)).not.toContain("alicia");
  expect(JSON.stringify(data)).not.toContain("secret");
  await expect(pool.client.call("exportPerson", { query: { name: "nobody" } })).rejects.toMatchObject({
    code: "FARPOOL_NOT_FOUND",
  });
});

test("a user who is pseudonymised is nowhere by name any more, and every sum is as it was", async () => {
  const pool = await startPool(postgres, 2);
  const { client } = pool;
  await client.call("createUser", { body: { name: "alice", password: "correct horse" } });
  await useOnce(pool, "ahx7");
  await client.call("mapAccount", {
    body: { client: OTHER.thumbprint, account: "ahx7", user: "alice" },
  });
  await useOnce(pool, "ahx7");
  await useOnce(pool, "alice-two", generateSigningKey().publicKey);
  const revoked = generateSigningKey();
  const other = await ask(client, 1, { clientKey: revoked.publicKey });
  const reason = "by alice, who had it last";
  await client.call("revokeClient", { params: { thumbprint: revoked.thumbprint }, body: { reason } });
  await pool.obey();
  const before = await client.call("usage", { query: { by: "session" } });
  const running = await ask(client, 1, { user: "ahx7", clientKey: OTHER.publicKey });
  const body = { name: "alice" };
  await expect(client.call("pseudonymisePerson", { body })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
    message: expect.stringContaining(running.id),
  });
  await client.call("endSession", { params: { sessionId: running.id }, body: { reason: "cancelled" } });
  await pool.obey();
  const db = connect(pool.database, () => undefined);
  await settleUsage(db);
  const { pseudonym, changed } = await client.call("pseudonymisePerson", { body });
  expect(pseudonym).toMatch(/^person-[0-9a-f]{10}$/);
  expect(Object.fromEntries(changed.map(({ what, count }) => [what, count]))).toMatchObject({
    "usage records": expect.any(Number),
    sessions: 2,
    account: 1,
    "mappings of accounts": 1,
  });
  const text = JSON.stringify([
    await client.call("usageRecords", { query: {} }),
    await client.call("listSessions", { query: { ended: 100 } }),
    await client.call("audit", { query: { last: 1_000 } }),
    await client.call("listUsers", {}),
    await client.call("listMappings", {}),
    await client.call("listClients", {}),
    await client.call("showSession", { params: { sessionId: other.id } }),
  ]);
  // As a word: another person is called alice-two.
  expect(text.match(/\balice\b(?!-two)/g)).toBeNull();
  expect(text).toContain("alice-two");
  const after = await client.call("usage", { query: { by: "session" } });
  const sums = (report: typeof before) =>
    report.rows.filter(({ key }) => key !== running.id).map(({ about: _, ...rest }) => rest);
  expect(sums(after)).toEqual(sums(before));
  // The door that was opened for this is closed again.
  await expect(db.updateTable("usage_records").set({ user_name: "somebody" }).execute()).rejects.toThrow(
    "never edited",
  );
  await db.destroy();
  await expect(
    client.call("signIn", { body: { user: "alice", password: "correct horse" } }),
  ).rejects.toMatchObject({ code: "FARPOOL_NOT_PERMITTED" });
});

test("names of programs and accounts are told by reports as long as they are switched on", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  await useOnce(pool, "alice");
  const keys = async (by: "user" | "program" | "process") =>
    (await client.call("usage", { query: { by } })).rows.map(({ key, about }) => `${key} ${about}`);
  expect(await keys("program")).toEqual(["train null"]);
  expect(await keys("user")).toEqual(["alice@ws-17 null"]);
  const off = { tellsPrograms: false, tellsAccounts: false };
  expect(await client.call("changePrivacySettings", { body: off })).toEqual(off);
  await useOnce(pool, "alice");
  expect(await keys("program")).toEqual(["null null"]);
  expect(await keys("user")).toEqual(["*@ws-17 null"]);
  expect((await keys("process")).join()).not.toContain("alice");
  const { records } = await client.call("usageRecords", { query: {} });
  expect(new Set(records.map(({ user, program }) => `${user} ${program}`))).toEqual(
    new Set(["*@ws-17 null"]),
  );
  await client.call("changePrivacySettings", { body: { tellsPrograms: true, tellsAccounts: true } });
  // What was not told then was not stored.
  expect((await keys("program")).toSorted()).toEqual(["null null", "train null"]);
});

import { randomUUID } from "node:crypto";
import type { ManagerClient } from "@farpool/client-api";
import { gpuUuidSchema, type Session, type UsageKey } from "@farpool/contract";
import { fakeInventory, GIB, startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { connect, type Database } from "../database/connect.ts";
import { ask, startPool, type TestPool } from "../testing/pool.ts";
import { createClockWatch, recordServerLost } from "./outages.ts";
import { rollUpSamples } from "./samples.ts";
import { settleUsage } from "./settle.ts";

const HOUR_MS = 3_600_000;
let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

async function start(gpus = 1): Promise<TestPool & { db: Database }> {
  const pool = await startPool(postgres, gpus);
  const db = connect(pool.database, () => undefined);
  onTestFinished(() => db.destroy());
  return { ...pool, db };
}

const usage = (client: ManagerClient, by: UsageKey, range: { from?: string; to?: string } = {}) =>
  client.call("usage", { query: { by, ...range } });
const finish = (client: ManagerClient, { id }: Session): Promise<Session> =>
  client.call("endSession", { params: { sessionId: id }, body: { reason: "finished" } });

/** Lets a session have been there long ago: all of its moments, and its events, are moved. */
async function moveTo(
  db: Database,
  { id }: Session,
  at: Readonly<Record<"granted" | "active" | "ended", string | null>>,
) {
  await sql`update sessions set requested_at = ${at.granted}, granted_at = ${at.granted}, active_at = ${at.active},
    ended_at = ${at.ended}, released_at = ${at.ended} where id = ${id}`.execute(db);
  for (const [state, moment] of Object.entries(at))
    if (moment !== null)
      await sql`update session_events set at = ${moment} where session_id = ${id} and state = ${state}`.execute(
        db,
      );
}

/** Ends a session as if it had been long ago; its usage is told only then. */
async function endInThePast(
  pool: TestPool & { db: Database },
  session: Session,
  { granted, ended, ...report }: { granted: string; ended: string } & Parameters<TestPool["obey"]>[0],
): Promise<void> {
  await sql`update sessions set usage_open = false where id = ${session.id}`.execute(pool.db);
  await finish(pool.client, session);
  await pool.obey(report);
  await moveTo(pool.db, session, { granted, active: granted, ended });
  await sql`update sessions set usage_open = true where id = ${session.id}`.execute(pool.db);
}

/** A session that is over. */
async function past(pool: TestPool & { db: Database }, granted: string, ended: string): Promise<Session> {
  const session = await ask(pool.client, 1);
  await pool.obey();
  await endInThePast(pool, session, { granted, ended });
  return session;
}

/** Prices of the past, as they stand after time went by; the API takes none that begin in it. */
async function price(db: Database, perHour: number, since: string | { from: string; model: string }) {
  const { from, model } = typeof since === "string" ? { from: since, model: null } : since;
  const values = { id: randomUUID(), model, per_hour: perHour, from_at: from, to_at: null };
  await db.insertInto("prices").values(values).execute();
}

const records = (db: Database) =>
  db.selectFrom("usage_records").selectAll().orderBy("from_at").orderBy("id").execute();
const worker = (connectionId: string, busyMs: number, more: object = {}) => ({
  pid: 7,
  connectionId,
  clientPid: 42,
  program: "train",
  startedAt: "2026-10-31T20:00:00Z",
  report: {
    calls: busyMs,
    roundTrips: 3,
    localCalls: 30,
    bytesReceived: 0,
    bytesSent: 0,
    kernelLaunches: 4,
    busyMs,
    memoryPeakBytes: 0,
    perGpu: [],
  },
  ...more,
});

test("records add up with the event log, to the millisecond, and what goes on is told so far", async () => {
  const pool = await start(2);
  const session = await ask(pool.client, 2);
  await pool.obey();
  const during = await usage(pool.client, "session");
  expect(during.rows).toMatchObject([{ key: session.id, about: "dev1@ws-17", sessions: 1 }]);
  expect(during.total.heldMs).toBeGreaterThan(0);
  await finish(pool.client, session);
  await pool.obey();
  await settleUsage(pool.db);
  const all = await records(pool.db);
  const { events } = await pool.client.call("showSession", { params: { sessionId: session.id } });
  const at = (state: string): number => Date.parse(events.find((event) => event.state === state)?.at ?? "");
  expect(all.reduce((sum, record) => sum + record.held_ms, 0)).toBe(2 * (at("ended") - at("granted")));
  expect(all.reduce((sum, record) => sum + record.charged_ms, 0)).toBe(2 * (at("ended") - at("active")));
  const after = await usage(pool.client, "user");
  expect(after.rows).toMatchObject([
    { key: "dev1@ws-17", sessions: 1, heldMs: 2 * (at("ended") - at("granted")) },
  ]);
});

test("a session over a month end with a price change in it is charged part by part", async () => {
  const pool = await start();
  await pool.client.call("changeBillingSettings", { body: { currency: "CHF", timeZone: "Europe/Berlin" } });
  await price(pool.db, 10_000, "2026-10-01T00:00:00Z");
  await price(pool.db, 20_000, { from: "2026-10-31T22:30:00Z", model: "Test GPU" });
  const session = await past(pool, "2026-10-31T22:00:00Z", "2026-11-01T00:00:00Z");
  await settleUsage(pool.db);
  await settleUsage(pool.db);
  expect(
    (await records(pool.db)).map((each) => [each.from_at.toISOString(), each.held_ms, each.cost]),
  ).toEqual([
    ["2026-10-31T22:00:00.000Z", HOUR_MS / 2, 5_000],
    ["2026-10-31T22:30:00.000Z", HOUR_MS / 2, 10_000],
    ["2026-10-31T23:00:00.000Z", HOUR_MS, 20_000],
  ]);
  expect((await usage(pool.client, "month")).rows.map(({ key, cost }) => [key, cost])).toEqual([
    ["2026-10", 15_000],
    ["2026-11", 20_000],
  ]);
  expect(await usage(pool.client, "model", { from: "2026-11-01", to: "2026-11" })).toMatchObject({
    currency: "CHF",
    rows: [{ key: "Test GPU", cost: 20_000, heldMs: HOUR_MS }],
  });
  await expect(
    pool.client.call("changeBillingSettings", { body: { currency: "EUR" } }),
  ).rejects.toMatchObject({ code: "FARPOOL_CONFLICT", message: expect.stringContaining("charges in CHF") });
  const { records: listed, next } = await pool.client.call("usageRecords", { query: {} });
  expect(next).toBeNull();
  expect(listed.map(({ sessionId }) => sessionId)).toEqual([session.id, session.id, session.id]);
});

test("a session that goes on is settled up to the last day end only, by whichever manager comes first", async () => {
  const pool = await start();
  await price(pool.db, 10_000, "2026-01-01T00:00:00Z");
  const session = await ask(pool.client, 1);
  await pool.obey();
  const granted = new Date(Date.now() - 40 * 24 * HOUR_MS).toISOString();
  await moveTo(pool.db, session, { granted, active: granted, ended: null });
  await Promise.all([settleUsage(pool.db), settleUsage(pool.db), settleUsage(pool.db)]);
  const settled = await records(pool.db);
  expect(settled.length).toBeGreaterThanOrEqual(40);
  expect(settled.at(-1)?.to_at.toISOString()).toMatch(/T00:00:00.000Z$/);
  settled.slice(1).forEach((record, index) => expect(record.from_at).toEqual(settled[index]?.to_at));
  const { total, rows } = await usage(pool.client, "day");
  expect(rows.length).toBeGreaterThanOrEqual(41);
  expect(total.sessions).toBe(1);
  expect(Math.abs(total.heldMs - 40 * 24 * HOUR_MS)).toBeLessThan(60_000);
});

test("records are never edited: the database refuses it, a correction is a record", async () => {
  const pool = await start();
  await price(pool.db, 10_000, "2026-01-01T00:00:00Z");
  const session = await past(pool, "2026-10-05T10:00:00Z", "2026-10-05T11:00:00Z");
  await settleUsage(pool.db);
  for (const statement of [
    "update usage_records set cost = 0",
    "delete from usage_records",
    "truncate usage_process_records",
  ])
    await expect(sql.raw(statement).execute(pool.db)).rejects.toThrow(/never edited/);
  const correction = await pool.client.call("correctUsage", {
    body: { sessionId: session.id, amount: -4_000, reason: "the cooling failed" },
  });
  expect(correction).toMatchObject({
    kind: "correction",
    cost: -4_000,
    note: "the cooling failed",
    heldMs: 0,
  });
  for (const by of ["session", "user", "program", "gpu"] as const)
    expect((await usage(pool.client, by)).total).toMatchObject({ cost: 6_000, heldMs: HOUR_MS, sessions: 1 });
  await expect(
    pool.client.call("addPrice", { body: { model: null, perHour: 1, fromAt: "2026-01-01T00:00:00Z" } }),
  ).rejects.toMatchObject({ code: "FARPOOL_BAD_REQUEST", hint: expect.stringContaining("usage correct") });
});

test("busy time is told per process, with its program, and sums are the same as the sessions'", async () => {
  const pool = await start();
  await price(pool.db, 10_000, "2026-01-01T00:00:00Z");
  const session = await ask(pool.client, 1);
  await pool.obey();
  const [first, second] = ["1".repeat(32), "2".repeat(32)];
  const told = (connectionId: string, busyMs: number, more = {}) => ({
    sessionId: session.id,
    worker: worker(connectionId, busyMs, more),
  });
  await pool.obey({ workers: [told(first, 600_000), told(second, 300_000, { program: "eval" })] });
  const busy = await usage(pool.client, "program");
  expect(busy.rows.map(({ key, busyMs }) => [key, busyMs])).toEqual([
    ["train", 600_000],
    ["eval", 300_000],
  ]);
  await endInThePast(pool, session, {
    granted: "2026-10-31T20:00:00Z",
    ended: "2026-10-31T22:00:00Z",
    workers: [told(first, 700_000, { endedAt: "2026-10-31T22:00:00Z", exit: { code: 0 } })],
  });
  await settleUsage(pool.db);
  const { rows, total } = await usage(pool.client, "process");
  expect(rows).toMatchObject([
    {
      key: `${session.id}/${first}`,
      about: "train, dev1 (dev1@ws-17, reported)",
      busyMs: 700_000,
      cost: 14_000,
    },
    { key: `${session.id}/${second}`, busyMs: 300_000, cost: 6_000 },
  ]);
  expect((await usage(pool.client, "session")).total).toEqual(total);
  expect(total).toMatchObject({ busyMs: 1_000_000, heldMs: 2 * HOUR_MS, cost: 20_000 });
  // The server had been given up, and comes back with its workers' last words.
  await pool.obey({ workers: [told(second, 350_000, { program: "eval" })] });
  await pool.obey({ workers: [told(second, 350_000, { program: "eval" })] });
  expect((await usage(pool.client, "session")).total).toMatchObject({
    busyMs: 1_050_000,
    heldMs: 2 * HOUR_MS,
  });
  const { records: all } = await pool.client.call("usageRecords", { query: {} });
  expect(all.filter(({ kind }) => kind === "correction")).toMatchObject([{ busyMs: 50_000, cost: 0 }]);
});

test("what an agent read before a worker's end and sends after it takes nothing back", async () => {
  const pool = await start();
  const session = await ask(pool.client, 1);
  await pool.obey();
  const told = (more: object, busyMs: number) => ({
    workers: [{ sessionId: session.id, worker: worker("3".repeat(32), busyMs, more) }],
  });
  await pool.obey(told({ endedAt: "2026-10-31T21:00:00Z", exit: { code: 3 } }, 500));
  await pool.obey(told({ clientPid: null, program: null }, 400));
  const { processes } = await pool.client.call("showSession", { params: { sessionId: session.id } });
  expect(processes).toMatchObject([
    {
      exit: "code 3",
      endedAt: "2026-10-31T21:00:00.000Z",
      program: "train",
      clientPid: 42,
      report: { busyMs: 500 },
    },
  ]);
});

test("a slice is charged by its share", async () => {
  const pool = await start();
  await price(pool.db, 10_000, "2026-01-01T00:00:00Z");
  const session = await ask(pool.client, 1, { size: { kind: "share", share: 0.25 } });
  await pool.obey();
  await endInThePast(pool, session, { granted: "2026-10-31T20:00:00Z", ended: "2026-10-31T22:00:00Z" });
  expect((await usage(pool.client, "session")).total).toMatchObject({ heldMs: HOUR_MS / 2, cost: 5_000 });
  const described = sql`project = 'vision', labels = '{"team": "a"}'`;
  await sql`update sessions set ${described} where id = ${session.id}`.execute(pool.db);
  await settleUsage(pool.db);
  expect((await usage(pool.client, "project")).rows).toMatchObject([{ key: "vision", cost: 5_000 }]);
  const { records: told } = await pool.client.call("usageRecords", { query: {} });
  expect(told).toMatchObject([{ project: "vision", labels: { team: "a" }, userSource: "reported" }]);
  const budget = await pool.client.call("setBudget", {
    body: { scope: "project", subject: "vision", amount: 5_000, action: "warn" },
  });
  expect(budget.spent).toBe(0);
});

test("time after a server was lost, and time that a clock leapt over, is marked and not charged", async () => {
  const pool = await start();
  await price(pool.db, 36_000, "2026-01-01T00:00:00Z");
  const session = await past(pool, "2026-10-05T10:00:00Z", "2026-10-05T11:00:00Z");
  await sql`update servers set heard_at = '2026-10-05T10:59:00Z'`.execute(pool.db);
  await pool.db.transaction().execute((tx) => recordServerLost(tx, session.id));
  await pool.db
    .insertInto("outages")
    .values({
      session_id: null,
      from_at: "2026-10-05T10:20:00Z",
      to_at: "2026-10-05T10:30:00Z",
      reason: "a leap",
    })
    .execute();
  await settleUsage(pool.db);
  expect((await records(pool.db)).map((each) => [each.charged_ms, each.cost, each.note])).toEqual([
    [1_200_000, 12_000, null],
    [0, 0, "a leap"],
    [1_740_000, 17_400, null],
    [0, 0, "the server gpu-01 was lost"],
  ]);
  const { total } = await usage(pool.client, "session");
  expect([total.heldMs, total.chargedMs]).toEqual([HOUR_MS, HOUR_MS - 660_000]);
});

test("a clock that is set forward is noticed, one that passes is not", async () => {
  const pool = await start();
  let steadyMs = 0;
  const watch = createClockWatch(pool.db, () => steadyMs);
  await watch.look();
  const startedAt = performance.now();
  await watch.look();
  steadyMs -= HOUR_MS;
  // Whatever the test itself took passes on both.
  steadyMs += performance.now() - startedAt;
  await watch.look();
  const outages = await pool.db.selectFrom("outages").selectAll().execute();
  expect(outages).toMatchObject([{ session_id: null, reason: "the pool's clock was set forward by 1 h" }]);
});

test("budgets warn, send behind others, and refuse, by name and in money", async () => {
  const pool = await start(1);
  await price(pool.db, 10_000, "2026-01-01T00:00:00Z");
  const month = new Date();
  const granted = new Date(Date.UTC(month.getUTCFullYear(), month.getUTCMonth(), 1)).toISOString();
  const session = await ask(pool.client, 1);
  await pool.obey();
  await finish(pool.client, session);
  await pool.obey();
  await pool.db
    .insertInto("usage_records")
    .values({
      kind: "correction",
      session_id: session.id,
      ordinal: 0,
      gpu_uuid: gpuUuidSchema.parse("GPU-1"),
      model: "Test GPU",
      server_id: pool.serverId,
      server_name: "gpu-01",
      user_name: "dev1@ws-17",
      user_source: "reported",
      client: "ws-17",
      labels: "{}",
      from_at: granted,
      to_at: granted,
      held_ms: 0,
      charged_ms: 0,
      busy_ms: 0,
      cost: 120_000,
      currency: "EUR",
      session_name: null,
      project: null,
      program: null,
      price_per_hour: null,
      note: null,
    })
    .execute();
  const set = (amount: number, action: "warn" | "queue-last" | "refuse") =>
    pool.client.call("setBudget", { body: { scope: "user", subject: "dev1@ws-17", amount, action } });
  expect((await set(100_000, "refuse")).spent).toBeGreaterThanOrEqual(120_000);
  await expect(ask(pool.client, 1)).rejects.toMatchObject({
    code: "FARPOOL_OVER_BUDGET",
    exitCode: 77,
    message: expect.stringMatching(
      /^the budget of the user dev1@ws-17 for \d{4}-\d\d is spent: 12\.\d+ of 10\.00 EUR; no new/,
    ),
    hint: expect.stringContaining("administrator"),
  });
  await set(100_000, "warn");
  const warned = await ask(pool.client, 1);
  expect(warned.state).toBe("granted");
  const { events } = await pool.client.call("showSession", { params: { sessionId: warned.id } });
  expect(events[0]?.reason).toContain("is spent: 12.");
  await set(100_000, "queue-last");
  const last = await ask(pool.client, 1);
  const other = await pool.client.call("createSession", {
    body: {
      count: 1,
      size: { kind: "whole" },
      name: null,
      client: { host: "ws-18", user: "dev2", pid: 42, program: null },
      clientKey: { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
      waitMs: null,
      // It would be behind by itself.
      priority: 40,
    },
  });
  expect(other.queue?.position).toBe(1);
  const show = () => pool.client.call("showSession", { params: { sessionId: last.id } });
  expect((await show()).queue?.position).toBe(2);
  await pool.client.call("removeBudget", { body: { scope: "user", subject: "dev1@ws-17" } });
  await waitFor(
    "its place again",
    async () => ((await show()).queue?.position === 1 ? true : undefined),
    20_000,
  );
});

test("samples come once however often they are sent, and grow coarse without losing anything", async () => {
  const pool = await start();
  const session = await ask(pool.client, 1);
  await pool.obey();
  const connectionId = "4".repeat(32);
  await pool.obey({ workers: [{ sessionId: session.id, worker: worker(connectionId, 1) }] });
  const now = Date.now();
  const samples = Array.from({ length: 120 }, (_, index) => ({
    sessionId: session.id,
    connectionId,
    at: new Date(now - 100 * 24 * HOUR_MS + index * 10_000).toISOString(),
    busyMs: index,
    memoryUsedBytes: index,
  }));
  await pool.obey({ samples });
  await pool.obey({ samples });
  const read = async (resolutionSeconds: 10 | 300 | 3600) =>
    (
      await pool.client.call("sessionSamples", {
        params: { sessionId: session.id },
        query: { resolutionSeconds },
      })
    ).samples;
  const busy = async (resolution: 10 | 300 | 3600) =>
    (await read(resolution)).reduce((sum, { busyMs }) => sum + busyMs, 0);
  const all = (119 * 120) / 2;
  expect(await busy(10)).toBe(all);
  await rollUpSamples(pool.db, now - 85 * 24 * HOUR_MS);
  expect([await busy(10), await busy(300)]).toEqual([0, all]);
  expect((await read(300)).length).toBeLessThanOrEqual(5);
  await rollUpSamples(pool.db, now);
  expect([await busy(300), await busy(3600)]).toEqual([0, all]);
  expect(Math.max(...(await read(3600)).map(({ memoryBytes }) => memoryBytes))).toBe(119);
});

test("a server that is lost ends its sessions, and from when it was last heard nothing is charged", async () => {
  const pool = await start();
  await price(pool.db, 36_000, "2026-01-01T00:00:00Z");
  const session = await ask(pool.client, 1);
  await pool.obey();
  const ago = (seconds: number): string => new Date(Date.now() - seconds * 1_000).toISOString();
  await sql`update sessions set granted_at = ${ago(600)}, active_at = ${ago(600)} where id = ${session.id}`.execute(
    pool.db,
  );
  await sql`update session_events set at = ${ago(600)} where session_id = ${session.id} and state <> 'ended'`.execute(
    pool.db,
  );
  // A manager that was away moved 'last_seen_at'; what counts is when the agent spoke.
  await sql`update servers set heard_at = ${ago(200)}, last_seen_at = ${ago(100)}`.execute(pool.db);
  await waitFor("its records", async () => ((await records(pool.db)).length > 0 ? true : undefined), 20_000);
  const told = await records(pool.db);
  expect(told.map(({ note }) => note)).toEqual([null, "the server gpu-01 was lost"]);
  const { total } = await usage(pool.client, "session");
  expect(Math.abs(total.chargedMs - 400_000)).toBeLessThan(10_000);
  expect(total.heldMs - total.chargedMs).toBeGreaterThanOrEqual(199_000);
});

test("labels that administrators give a server count before its own, and outlive its restart", async () => {
  const pool = await start();
  const params = { serverId: pool.serverId };
  const register = async (labels: Record<string, string>) => {
    const [server] = (await pool.client.call("listServers", {})).servers;
    if (server === undefined) throw new Error("there is no server");
    const gpus = [{ uuid: `GPU-${pool.serverId}-0`, name: "Test GPU", memoryTotalBytes: 16 * GIB }];
    await pool.client.call("registerAgent", {
      body: {
        ...params,
        name: "gpu-01",
        version: "0.1.0",
        endpoints: server.endpoints,
        inventory: fakeInventory(gpus),
        labels,
      },
    });
  };
  await register({ zone: "a", rack: "7" });
  const change = (labels: Record<string, string | null>) =>
    pool.client.call("changeServer", { params, body: { labels } });
  expect((await change({ zone: "b", rack: null })).labels).toEqual({ zone: "b" });
  await register({ zone: "a", rack: "8", row: "2" });
  expect((await pool.client.call("listServers", {})).servers[0]?.labels).toEqual({ zone: "b", row: "2" });
  await expect(change({ Zone: "x" })).rejects.toMatchObject({ code: "FARPOOL_BAD_REQUEST" });
});

import { sessionRequestSchema, type Session, type SessionRequest } from "@farpool/contract";
import type { ManagerClient } from "@farpool/client-api";
import { startTestServer, type TestDatabase, type TestServer } from "@farpool/testkit";
import { Kysely, PostgresDialect } from "kysely";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { clientConfig, inPlacement, type Database } from "../database/connect.ts";
import type { Schema } from "../database/schema.ts";
import { createSession } from "../sessions/create.ts";
import { releaseInPlacement } from "../sessions/end.ts";
import { ask, CLIENT, registerServer, startPool } from "../testing/pool.ts";
import { runPlacementPass } from "./pass.ts";

/** Of our goals (G11): what a grant costs the database, whatever is asked for. `begin` and `commit` are not counted. */
const MOST_STATEMENTS = 8;

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

async function counting<T>(
  connection: Parameters<typeof clientConfig>[0],
  work: (db: Database) => Promise<T>,
): Promise<{ result: T; statements: readonly string[] }> {
  const statements: string[] = [];
  const db = new Kysely<Schema>({
    dialect: new PostgresDialect({ pool: new pg.Pool({ ...clientConfig(connection), max: 2 }) }),
    log: ({ query }) => {
      if (!/^\s*(begin|commit|rollback)/i.test(query.sql)) statements.push(query.sql);
    },
  });
  try {
    return { result: await work(db), statements };
  } finally {
    await db.destroy();
  }
}

const request = (count: number, more: Partial<SessionRequest> = {}) =>
  sessionRequestSchema.parse({
    ...{ count, size: { kind: "whole" }, name: null, waitMs: null, clientKey: CLIENT.publicKey },
    client: { host: "ws-17", user: "dev1", pid: 42, program: "train" },
    filters: ["gpu.memory>=1GiB"],
    project: "apollo",
    ...more,
  });

/** Everything that a request can be judged by. */
async function makeRules(client: ManagerClient, gpus = 8): Promise<void> {
  const user = "dev1@ws-17";
  await client.call("setPolicy", {
    body: {
      scope: { kind: "pool", name: "" },
      fields: {
        gpus: { value: gpus },
        memoryMib: { value: 1 << 20 },
        maxDurationMs: { value: 3_600_000, hard: true },
        servers: { value: [{ label: "simulated", values: ["yes", "no"] }] },
      },
    },
  });
  await client.call("setPolicy", {
    body: { scope: { kind: "user", name: user }, fields: { priority: { value: 90 } } },
  });
  for (const [scope, subject] of [
    ["user", user],
    ["project", "apollo"],
  ] as const)
    await client.call("setBudget", { body: { scope, subject, amount: 10_000_000, action: "refuse" } });
}

test.each([
  [1, false, 6],
  [8, false, 6],
  [8, true, 7],
])(
  "a request for %i GPUs that finds the queue empty (policies and budgets: %s) takes %i statements",
  async (count, hasRules, most) => {
    const { client, database } = await startPool(postgres, 8);
    if (hasRules) await makeRules(client);
    // The client is known: its first request makes its account.
    const known = await ask(client, 1);
    await client.call("endSession", { params: { sessionId: known.id }, body: { reason: "finished" } });
    await release(database, known);
    const { result, statements } = await counting(database, (db) => createSession(db, request(count)));
    expect(result).toMatchObject({ state: "granted", maxDurationMs: hasRules ? 3_600_000 : null });
    expect(result.gpus).toHaveLength(count);
    expect(statements.slice(most)).toEqual([]);
  },
);

test.each([
  [false, 7],
  [true, MOST_STATEMENTS],
])(
  "a request that finds others waiting (policies and budgets: %s) takes %i statements, whether it waits or not",
  async (hasRules, most) => {
    const { client, database } = await startPool(postgres, 8);
    if (hasRules) await makeRules(client, 64);
    await ask(client, 1);
    await ask(client, 8);
    await ask(client, 8);
    const waits = await counting(database, (db) => createSession(db, request(8)));
    expect(waits.result.state).toBe("queued");
    expect(waits.statements.slice(most)).toEqual([]);
    // Nothing is kept for the others yet.
    const goesBefore = await counting(database, (db) => createSession(db, request(1)));
    expect(goesBefore.result.state).toBe("granted");
    expect(goesBefore.statements.slice(most)).toEqual([]);
  },
);

test("a request for GPUs on several servers takes as many statements as one for a single server", async () => {
  const { client, database } = await startPool(postgres, 2);
  await registerServer(client, 2, { name: "gpu-02" });
  const known = await ask(client, 1);
  await client.call("endSession", { params: { sessionId: known.id }, body: { reason: "finished" } });
  await release(database, known);
  const { result, statements } = await counting(database, (db) =>
    createSession(db, request(3, { spreadServers: true })),
  );
  expect(result).toMatchObject({ state: "granted", furtherServers: [{ name: "gpu-02" }] });
  expect(statements.slice(6)).toEqual([]);
});

test("a pass that grants to twenty who waited takes 8 statements at most, in all", async () => {
  const { client, database } = await startPool(postgres, 20);
  const held = await ask(client, 20);
  for (let each = 0; each < 22; each += 1) await ask(client, 1);
  await client.call("endSession", { params: { sessionId: held.id }, body: { reason: "finished" } });
  await release(database, held);
  const { statements } = await counting(database, (db) => inPlacement(db, (tx) => runPlacementPass(tx)));
  const { sessions } = await client.call("listSessions", { query: {} });
  expect(sessions.map(({ state }) => state)).toEqual([...Array(20).fill("granted"), "queued", "queued"]);
  expect(statements.slice(MOST_STATEMENTS)).toEqual([]);
});

/** Its server has closed it; nobody has looked at the queue since. */
async function release(database: TestDatabase, { id, serverId }: Session): Promise<void> {
  if (serverId === null) throw new Error(`the session ${id} has no server`);
  await counting(database, (db) => inPlacement(db, (tx) => releaseInPlacement(tx, [{ id, serverId }])));
}

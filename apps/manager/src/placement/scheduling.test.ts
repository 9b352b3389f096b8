import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import type { Session } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { startTestServer, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../database/connect.ts";
import { ask, startPool } from "../testing/pool.ts";
import { changeScheduling, readScheduling } from "./fair-share.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

const finish = (client: ManagerClient, { id }: Session): Promise<Session> =>
  client.call("endSession", { params: { sessionId: id }, body: { reason: "finished" } });
const show = (client: ManagerClient, { id }: Session) =>
  client.call("showSession", { params: { sessionId: id } });
const gpus = (session: Session): string[] => session.gpus.map(({ uuid }) => uuid.slice(-1));

test("the user who has had less goes before the one who came first", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const first = await ask(client, 1, { user: "ann" });
  await obey();
  await sleep(300);
  const second = await ask(client, 1, { user: "ann" });
  const third = await ask(client, 1, { user: "ben" });
  expect((await client.call("listQueue", {})).entries.map(({ session }) => session.id)).toEqual([
    third.id,
    second.id,
  ]);
  await finish(client, first);
  await obey();
  expect(await show(client, third)).toMatchObject({ state: "granted" });
  const { users, halfLifeMs } = await client.call("listQueue", {});
  expect(halfLifeMs).toBe(86_400_000);
  expect(users).toMatchObject([{ shareKey: "ann@ws-17", heldGpus: 0, waiting: 1 }]);
  // It was held for that long, and what was held is remembered after the end.
  const { usage } = await show(client, first);
  expect(users[0]?.usedGpuSeconds).toBeGreaterThan(0.29);
  expect(users[0]?.usedGpuSeconds).toBeLessThan(usage.heldMs / 1_000 + 0.05);
});

test("slices count as what they are of a GPU", async () => {
  const { client } = await startPool(postgres, 1);
  await ask(client, 1, { user: "ann", size: { kind: "share", share: 0.25 } });
  await ask(client, 1, { user: "ann" });
  expect((await client.call("listQueue", {})).users).toMatchObject([{ heldGpus: 0.25 }]);
});

test("who comes back within a day gets the GPU of before, others get what fits best", async () => {
  const { client, obey } = await startPool(postgres, 3);
  const [first, second] = [await ask(client, 1), await ask(client, 1)];
  expect([gpus(first), gpus(second)]).toEqual([["0"], ["1"]]);
  await obey();
  for (const session of [first, second]) {
    await finish(client, session);
    await obey();
  }
  expect(gpus(await ask(client, 1, { clientKey: generateSigningKey().publicKey }))).toEqual(["0"]);
  const again = await ask(client, 1);
  expect(gpus(again)).toEqual(["1"]);
  // Taken by itself now.
  expect(gpus(await ask(client, 1))).toEqual(["2"]);
});

test("two managers grant nothing twice, and one tells what the other decides", async () => {
  const { client, replica } = await startPool(postgres, 6);
  const other = await replica();
  const sessions = await Promise.all(
    Array.from({ length: 24 }, (_, index) => ask(index % 2 === 0 ? client : other, 1 + (index % 3))),
  );
  const { sessions: all } = await other.call("listSessions", { query: {} });
  const taken = all.flatMap((session) => session.gpus.map(({ uuid }) => uuid));
  expect(new Set(taken).size).toBe(taken.length);
  expect(taken).toHaveLength(6);
  const positions = all.flatMap(({ queue }) => (queue === null ? [] : [queue.position]));
  expect(positions.sort((a, b) => a - b)).toEqual(positions.map((_, index) => index + 1));
  expect(all).toHaveLength(sessions.length);
});

test("the estimate is the known end of who is before, and moves when it ends early", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const first = await ask(client, 1, { maxDurationMs: 600_000 });
  await obey();
  const waiting = await ask(client, 1);
  const grantedAt = Date.parse(first.grantedAt ?? "");
  expect(Date.parse(waiting.queue?.estimatedAt ?? "") - grantedAt).toBeCloseTo(600_000, -2);
  await finish(client, first);
  const moved = await show(client, waiting);
  expect(Date.parse(moved.queue?.estimatedAt ?? "")).toBeLessThanOrEqual(Date.now() + 1_000);
});

test("how the pool is scheduled is kept in the database", async () => {
  const { database, restart } = await startPool(postgres, 1);
  const db = connect(database, () => undefined);
  await changeScheduling(db, { halfLifeMs: 3_600_000, reserveAfterMs: 0 });
  await restart();
  expect(await readScheduling(db)).toMatchObject({
    halfLifeMs: 3_600_000,
    reserveAfterMs: 0,
    agingMs: 300_000,
    keptShare: 0.05,
  });
  await db.destroy();
});

test.each([
  ["a filter that is none", { filters: ["nonsense"] }, "--filter takes KEY OPERATOR VALUE, not 'nonsense'"],
  [
    "a high priority",
    { priority: 100 },
    "policy 'highest priority': asked for 100, allowed: 50 (nobody has set it)",
  ],
])("a request with %s is refused and leaves no trace", async (_, more, sentence) => {
  const { client } = await startPool(postgres, 2);
  await expect(ask(client, 2, more)).rejects.toThrow(sentence);
  expect((await client.call("listSessions", { query: { ended: 10 } })).sessions).toEqual([]);
});

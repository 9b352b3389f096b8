import { startTestServer, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect } from "../database/connect.ts";
import { registerServer, startPool } from "../testing/pool.ts";
import { createHeartbeats } from "./heartbeats.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

test("a heartbeat that has to wait for its server's row delays no other one's, and is stored all the same", async () => {
  const { client, serverId: held, database } = await startPool(postgres, 1);
  const free = await registerServer(client, 1);
  const db = connect(database, () => undefined);
  const heartbeats = createHeartbeats(db);
  const beat = { inventory: null, acceptorReady: true, hasNothingNew: true };
  let isStored = false;
  const late = await db.transaction().execute(async (tx) => {
    await tx.updateTable("servers").set({ version: "0.0.9" }).where("id", "=", held).execute();
    const waiting = heartbeats.accept(held, beat).then(() => {
      isStored = true;
    });
    await heartbeats.accept(free, beat);
    expect(isStored).toBe(false);
    return { waiting };
  });
  await late.waiting;
  const rows = await db.selectFrom("servers").select(["id", "reported_at"]).execute();
  expect(rows.filter(({ reported_at: at }) => at !== null).map(({ id }) => id)).toEqual(
    expect.arrayContaining([held, free]),
  );
  await db.destroy();
});

import { startTestServer } from "@farpool/testkit";
import { sql } from "kysely";
import { expect, onTestFinished, test } from "vitest";
import { connect, inPlacement } from "./connect.ts";

test("work that PostgreSQL ended because of a deadlock is done again, and only what it did then counts", async () => {
  const server = await startTestServer();
  const db = connect(await server.createDatabase(), () => undefined);
  onTestFinished(async () => {
    await db.destroy();
    await server.stop();
  });
  await sql`create table counts (name text primary key, count integer not null)`.execute(db);
  await sql`insert into counts values ('first', 0), ('second', 0)`.execute(db);
  const add = (tx: typeof db, name: string) =>
    sql`update counts set count = count + 1 where name = ${name}`.execute(tx);
  const [ours, theirs] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let attempts = 0;
  const placement = inPlacement(db, async (tx) => {
    attempts += 1;
    await add(tx, "first");
    ours.resolve();
    await theirs.promise;
    await add(tx, "second");
  });
  await db.transaction().execute(async (tx) => {
    // Who waits for longer than this is the one that is ended.
    await sql`set local deadlock_timeout = '20s'`.execute(tx);
    await add(tx, "second");
    theirs.resolve();
    await ours.promise;
    await add(tx, "first");
  });
  await placement;
  expect(attempts).toBe(2);
  const { rows } = await sql<{ name: string; count: number }>`select * from counts order by name`.execute(db);
  expect(rows).toEqual([
    { name: "first", count: 2 },
    { name: "second", count: 2 },
  ]);
});

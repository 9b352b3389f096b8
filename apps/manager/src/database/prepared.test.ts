import { startTestServer, type TestServer } from "@farpool/testkit";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { againAfterDeadlock, connect, type Database, type Tx } from "./connect.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

interface Item {
  readonly id: number;
  readonly name?: string;
}

async function withDatabase(work: (db: Database) => Promise<void>): Promise<void> {
  const db = connect(await postgres.createDatabase(), () => undefined);
  try {
    await sql`create table items (id integer)`.execute(db);
    await sql`insert into items values (1), (2)`.execute(db);
    await work(db);
  } finally {
    await db.destroy();
  }
}

async function items(db: Database | Tx, least: number): Promise<readonly Item[]> {
  const { rows } = await sql<Item>`select * from items where id >= ${least}::integer order by id`.execute(db);
  return rows;
}

async function preparedTexts(db: Database | Tx): Promise<readonly string[]> {
  const { rows } = await sql<{ statement: string }>`select statement from pg_prepared_statements`.execute(db);
  return rows.map(({ statement }) => statement);
}

const addName = (db: Database) => sql`alter table items add column name text default 'new'`.execute(db);

test("a statement that is sent often is prepared, one that is sent now and then is not", async () => {
  await withDatabase(async (db) => {
    for (let time = 0; time < 30; time += 1) expect(await items(db, 2)).toEqual([{ id: 2 }]);
    await sql`select ${1}::integer`.execute(db);
    expect(await preparedTexts(db)).toEqual(["select * from items where id >= $1::integer order by id"]);
    expect(await items(db, 1)).toEqual([{ id: 1 }, { id: 2 }]);
  });
});

test("a migration by another manager is noticed: prepared statements answer the new columns", async () => {
  await withDatabase(async (db) => {
    for (let time = 0; time < 30; time += 1) await items(db, 2);
    await addName(db);
    for (let time = 0; time < 30; time += 1) expect(await items(db, 2)).toEqual([{ id: 2, name: "new" }]);
    expect(await preparedTexts(db)).toContain("select * from items where id >= $1::integer order by id");
  });
});

test("a transaction that meets it is done again", async () => {
  await withDatabase(async (db) => {
    let attempts = 0;
    const work = (): Promise<readonly Item[]> =>
      againAfterDeadlock(() =>
        db.transaction().execute((tx) => {
          attempts += 1;
          return items(tx, 2);
        }),
      );
    for (let time = 0; time < 30; time += 1) await work();
    await addName(db);
    expect(await work()).toEqual([{ id: 2, name: "new" }]);
    expect(attempts).toBe(32);
  });
});

test("what fails otherwise fails as before, prepared or not", async () => {
  await withDatabase(async (db) => {
    const divide = (by: number) => sql`select 1 / ${by}::integer as result`.execute(db);
    for (let time = 0; time < 30; time += 1) await divide(1);
    await expect(divide(0)).rejects.toMatchObject({ code: "22012" });
    expect((await divide(1)).rows).toEqual([{ result: 1 }]);
  });
});

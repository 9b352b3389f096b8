import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startEmbeddedPostgres, type EmbeddedPostgres } from "./start.ts";

const temporary = temporaryFolder();
const folder = join(temporary.path, "postgres");
const started: EmbeddedPostgres[] = [];

/** All tests share one cluster: making it is what takes time. */
async function start(): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ folder, logFile: join(temporary.path, "log") });
  started.push(server);
  return server;
}

beforeAll(async () => {
  await (await start()).stop();
}, 60_000);

afterAll(async () => {
  for (const server of started) await server.stop();
  temporary[Symbol.dispose]();
});

async function query<T extends pg.QueryResultRow>(server: EmbeddedPostgres, text: string): Promise<T[]> {
  const client = new pg.Client({ ...server.connection, database: "postgres" });
  await client.connect();
  try {
    return (await client.query<T>(text)).rows;
  } finally {
    await client.end();
  }
}

test("what was committed is there after a crash, which left its pid file behind", async () => {
  const first = await start();
  await query(first, "create table kept (value integer); insert into kept values (42)");
  process.kill(first.pid, "SIGKILL");
  await first.exited;
  expect(readFileSync(join(folder, "data/postmaster.pid"), "utf8")).toContain(String(first.pid));
  const second = await start();
  expect(await query(second, "select value from kept")).toEqual([{ value: 42 }]);
});

test("a pid file that names an unrelated living process does not keep it from starting", async () => {
  const first = await start();
  process.kill(first.pid, "SIGKILL");
  await first.exited;
  const file = join(folder, "data/postmaster.pid");
  writeFileSync(file, readFileSync(file, "utf8").replace(/^\d+/, String(process.pid)));
  expect(await query(await start(), "select 1 as one")).toEqual([{ one: 1 }]);
});

test("one that runs on without its manager is stopped before the data is opened again", async () => {
  const first = await start();
  const second = await start();
  await first.exited;
  expect(second.pid).not.toBe(first.pid);
  expect(await query(second, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("it is durable, reachable over its socket only, and asks for a password", async () => {
  const server = await start();
  const settings = await query(
    server,
    "select current_setting('fsync') as fsync, current_setting('listen_addresses') as addresses",
  );
  expect(settings).toEqual([{ fsync: "on", addresses: "" }]);
  const intruder = new pg.Client({ ...server.connection, database: "postgres", password: "wrong" });
  await expect(intruder.connect()).rejects.toThrow(/password authentication failed/);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
  expect(statSync(join(folder, "password")).mode & 0o777).toBe(0o600);
});

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient, type ManagerClient } from "@farpool/client-api";
import { TIMES, type Session } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import {
  databaseUrl,
  fakeInventory,
  GIB,
  startProgram,
  startTestServer,
  temporaryFolder,
  waitFor,
  type Program,
  type TestServer,
} from "@farpool/testkit";
import pg from "pg";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const SERVER_ID = "6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f";
const { publicKey: clientKey } = generateSigningKey();
let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

interface Replica {
  readonly program: Program;
  readonly client: ManagerClient;
}

/** Manager processes as `up` starts them, on one PostgreSQL that is none of theirs. */
async function startReplicas(names: readonly string[]): Promise<Replica[]> {
  const url = databaseUrl(await postgres.createDatabase());
  const folder = temporaryFolder();
  const replicas = names.map((name): Replica => {
    const state = join(folder.path, name);
    const settings = {
      ...{ database: "external", stateFolder: folder.path, logFolder: folder.path },
      ...{ socketPath: `${state}.sock`, tokenFile: `${state}.token`, tcp: null, graceMs: TIMES.graceMs },
    };
    const words = [process.execPath, MAIN, "internal", "manager", JSON.stringify(settings)];
    const program = startProgram(words, { ...process.env, FARPOOL_DATABASE: url });
    return { program, client: createClient({ kind: "unix", path: `${state}.sock` }) };
  });
  onTestFinished(async () => {
    for (const { program, client } of replicas) {
      client.close();
      program.child.kill("SIGTERM");
      await program.ended;
    }
    folder[Symbol.dispose]();
  });
  for (const { client, program } of replicas)
    await waitFor(
      "a manager",
      async () => {
        if (program.child.exitCode !== null) throw new Error(program.stdout());
        return (await client.call("ready", {}).catch(() => undefined))?.ok;
      },
      30_000,
    );
  return replicas;
}

async function addServer(client: ManagerClient): Promise<void> {
  const gpus = [{ uuid: "GPU-1", name: "Test GPU", memoryTotalBytes: 16 * GIB }];
  await client.call("registerAgent", {
    body: {
      ...{ serverId: SERVER_ID, name: "gpu-01", version: "0.1.0", inventory: fakeInventory(gpus) },
      endpoints: [{ kind: "tls", host: "127.0.0.1", port: 7445 }],
    },
  });
  const body = { inventory: null, acceptorReady: true };
  await client.call("heartbeatAgent", { params: { serverId: SERVER_ID }, body });
}

function ask(client: ManagerClient): Promise<Session> {
  const asking = { host: "ws-17", user: "dev1", pid: 42, program: "train" };
  return client.call("createSession", {
    body: { count: 1, size: { kind: "whole" }, name: null, client: asking, clientKey, waitMs: null },
  });
}

const watch = (client: ManagerClient, { id, revision }: Session): Promise<Session> =>
  client.call("watchSession", { params: { sessionId: id }, query: { revision } }, { timeoutMs: 40_000 });

test("two managers that start at once share one pool: what is done at one is seen at the other, also when one dies", async () => {
  const [first, second] = await startReplicas(["first", "second"]);
  if (first === undefined || second === undefined) throw new Error("there are two");
  const authorities = await Promise.all([first, second].map(({ client }) => client.call("authority", {})));
  expect(authorities[0]).toEqual(authorities[1]);
  await addServer(first.client);
  const session = await ask(first.client);
  const seen = watch(second.client, session);
  await first.client.call("endSession", { params: { sessionId: session.id }, body: { reason: "finished" } });
  expect(await seen).toMatchObject({ id: session.id, state: "ended" });

  const other = await ask(first.client);
  const watched = watch(second.client, other);
  first.program.child.kill("SIGKILL");
  await first.program.ended;
  const params = { sessionId: other.id };
  await second.client.call("endSession", { params, body: { reason: "finished" } });
  expect(await watched).toMatchObject({ id: other.id, state: "ended" });
});

test("a manager that is stopped answers its long polls, refuses to be ready, and exits with 0", async () => {
  const [replica] = await startReplicas(["only"]);
  if (replica === undefined) throw new Error("there is one");
  await addServer(replica.client);
  const session = await ask(replica.client);
  const before = await replica.client.call("showSession", { params: { sessionId: session.id } });
  const held = (async () => {
    const lines = [];
    for await (const line of replica.client.hold(session.id, new AbortController().signal)) lines.push(line);
    return lines;
  })();
  held.catch(() => undefined);
  const watched = watch(replica.client, before);
  await replica.client.call("heartbeatSession", { params: { sessionId: session.id } });
  replica.program.child.kill("SIGTERM");
  expect(await watched).toMatchObject({ id: session.id, revision: before.revision, state: "granted" });
  await expect(held).rejects.toMatchObject({ message: "the connection that holds the session broke" });
  expect(await replica.program.ended).toMatchObject({ status: 0 });
  expect(replica.program.stdout()).toContain("manager stopped");
});

test("a database that a newer manager has changed is refused in a sentence", async () => {
  const connection = await postgres.createDatabase();
  const url = databaseUrl(connection);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  await client.query(
    "create table kysely_migration (name varchar(255) primary key, timestamp varchar(255) not null)",
  );
  await client.query("insert into kysely_migration values ('9999-from-the-future', 'now')");
  await client.end();
  using folder = temporaryFolder();
  const settings = {
    ...{ database: "external", stateFolder: folder.path, logFolder: folder.path, tcp: null, graceMs: 1_000 },
    ...{ socketPath: join(folder.path, "m.sock"), tokenFile: join(folder.path, "token") },
  };
  const words = [process.execPath, MAIN, "internal", "manager", JSON.stringify(settings)];
  const program = startProgram(words, { ...process.env, FARPOOL_DATABASE: url });
  expect(await program.ended).toMatchObject({
    status: 69,
    stdout: expect.stringContaining("the database has the change 9999-from-the-future, which this manager"),
  });
});

import type { ManagerClient } from "@farpool/client-api";
import type { AgentReport, ServerId, Session, SessionRequest } from "@farpool/contract";
import { readClaims } from "@farpool/identity/grants";
import { startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { connect, nowPlus, type Database } from "../database/connect.ts";
import { changeScheduling } from "../placement/fair-share.ts";
import { startClockedPool } from "../testing/clocked-pool.ts";
import { ask, obeyAs, registerServer, startPool } from "../testing/pool.ts";
import { settleUsage } from "../usage/settle.ts";
import { grantFreshPeriod } from "./lease.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

/** Two GPUs on gpu-01 and one on gpu-02: three lie on both. */
async function start() {
  const { client, serverId: first, database, restart } = await startPool(postgres, 2);
  const second = await registerServer(client, 1, { name: "gpu-02" });
  const db = connect(database, () => undefined);
  onTestFinished(() => db.destroy());
  return { client, first, second, db, restart };
}

const spread = (client: ManagerClient, count = 3, more: Partial<SessionRequest> = {}): Promise<Session> =>
  ask(client, count, { spreadServers: true, ...more });
const show = (client: ManagerClient, { id }: Session) =>
  client.call("showSession", { params: { sessionId: id } });
const finish = (client: ManagerClient, { id }: Session): Promise<Session> =>
  client.call("endSession", { params: { sessionId: id }, body: { reason: "finished" } });
const desired = (client: ManagerClient, serverId: ServerId) =>
  client.call("watchDesired", { params: { serverId }, query: { revision: 0, timeoutMs: 0 } });
const partsOf = (db: Database) => db.selectFrom("session_servers").selectAll().orderBy("position").execute();

/** Which GPUs a server has to give to which session. */
async function part(client: ManagerClient, serverId: ServerId) {
  const { sessions } = await desired(client, serverId);
  return sessions.map(({ id, gpus }) => [id, gpus.map(({ uuid }) => uuid)]);
}

/** How often what a server has to hold has changed. */
const revisionsOf = (client: ManagerClient, servers: readonly ServerId[]) =>
  Promise.all(servers.map(async (server) => (await desired(client, server)).revision));

/** Which sessions the GPUs of the pool are taken by, server by server. */
async function taken(client: ManagerClient) {
  const { gpus } = await client.call("listGpus", {});
  return gpus.map(({ serverName, sessions }) => `${serverName}: ${sessions.length}`);
}

const uuid = (serverId: ServerId, index: number): string => `GPU-${serverId}-${index}`;

function worker(
  session: Session,
  number: number,
  busyMs: number,
): NonNullable<AgentReport["workers"]>[number] {
  const counts = { roundTrips: 3, localCalls: 0, bytesReceived: 10, bytesSent: 20, kernelLaunches: 4 };
  return {
    sessionId: session.id,
    worker: {
      ...{ pid: number, connectionId: String(number).repeat(32), clientPid: 42, program: "train" },
      startedAt: new Date().toISOString(),
      report: { calls: busyMs, busyMs, memoryPeakBytes: 4096, ...counts, perGpu: [] },
    },
  };
}

test("GPUs on several servers are granted all together or not at all, and each server gets its part", async () => {
  const { client, first, second } = await start();
  await expect(spread(client, 4)).rejects.toMatchObject({
    code: "FARPOOL_NEVER_FITS",
    message: expect.stringContaining("the largest session of this size that the pool can ever grant is 3 ×"),
  });
  const before = await ask(client, 1);
  expect(before).toMatchObject({ state: "granted", serverName: "gpu-02" });

  const waiting = await spread(client);
  expect(waiting).toMatchObject({ state: "queued", serverId: null, furtherServers: [], gpus: [] });
  expect(await part(client, first)).toEqual([]);

  await finish(client, before);
  const revisions = await revisionsOf(client, [first, second]);
  await obeyAs(client, second);
  const granted = await show(client, waiting);
  expect(granted).toMatchObject({
    state: "granted",
    serverId: first,
    serverName: "gpu-01",
    furtherServers: [{ id: second, name: "gpu-02" }],
    gpus: [{ uuid: uuid(first, 0) }, { uuid: uuid(first, 1) }, { uuid: uuid(second, 0) }],
  });
  expect(granted.events.at(-1)?.reason).toBe("2 × Test GPU on gpu-01 and 1 × Test GPU on gpu-02");
  expect((await client.call("listSessions", { query: {} })).sessions).toMatchObject([
    { id: waiting.id, furtherServers: [{ id: second }] },
  ]);
  expect(await part(client, first)).toEqual([[waiting.id, [uuid(first, 0), uuid(first, 1)]]]);
  expect(await part(client, second)).toEqual([[waiting.id, [uuid(second, 0)]]]);
  expect(await revisionsOf(client, [first, second])).toEqual(revisions.map((before) => before + 1));
});

test("a session on several servers is active when all of them have opened it, and has a way to each", async () => {
  const { client, first, second } = await start();
  const session = await spread(client);
  const params = { sessionId: session.id };
  await obeyAs(client, first);
  await obeyAs(client, first);
  expect(await show(client, session)).toMatchObject({ state: "granted", activeAt: null });
  await expect(client.call("connectSession", { params })).rejects.toMatchObject({ code: "FARPOOL_CONFLICT" });

  await obeyAs(client, second);
  const active = await show(client, session);
  expect(active).toMatchObject({ state: "active", activeAt: expect.any(String) });
  expect(active.events.filter(({ state }) => state === "active")).toMatchObject([
    { reason: "its servers take connections" },
  ]);
  const { serverId, grant, furtherServers } = await client.call("connectSession", { params });
  expect({ serverId, furtherServers }).toMatchObject({
    serverId: first,
    furtherServers: [{ serverId: second, endpoints: [{ kind: "tcp", host: "127.0.0.1", port: 7445 }] }],
  });
  expect(readClaims(grant.grant)).toMatchObject({ sub: session.id, aud: first });
  expect(readClaims(furtherServers[0]?.grant.grant ?? "")).toMatchObject({ sub: session.id, aud: second });
  expect((await client.call("audit", { query: {} })).entries[0]).toMatchObject({
    kind: "session-started",
    serverName: "gpu-01, gpu-02",
  });
});

test("a grant is for the server that is named, else for the first; another server is refused", async () => {
  const { client, first, second } = await start();
  const session = await spread(client);
  const other = await registerServer(client, 1, { name: "gpu-03" });
  const grantFor = async (serverId?: ServerId): Promise<unknown> => {
    const query = serverId === undefined ? {} : { serverId };
    const { grant } = await client.call("grantSession", { params: { sessionId: session.id }, query });
    return readClaims(grant).aud;
  };
  expect(await grantFor()).toBe(first);
  expect(await grantFor(first)).toBe(first);
  expect(await grantFor(second)).toBe(second);
  await expect(grantFor(other)).rejects.toMatchObject({
    code: "FARPOOL_BAD_REQUEST",
    message: `the session ${session.id} is on gpu-01 (${first}) and gpu-02 (${second}), not on the server ${other}`,
  });
});

test("GPUs are free when their own server has closed the session, which is released with the last of them", async () => {
  const { client, first, second, db } = await start();
  // Each server counts its own changes: the second is ahead.
  await finish(client, await ask(client, 1));
  await obeyAs(client, second);
  const session = await spread(client);
  await obeyAs(client, first);
  await obeyAs(client, second);
  const before = await revisionsOf(client, [first, second]);
  await finish(client, session);
  expect(await revisionsOf(client, [first, second])).toEqual(before.map((revision) => revision + 1));
  expect(await Promise.all([first, second].map((server) => part(client, server)))).toEqual([[], []]);
  expect(await taken(client)).toEqual(["gpu-01: 1", "gpu-01: 1", "gpu-02: 1"]);

  await obeyAs(client, first);
  expect(await taken(client)).toEqual(["gpu-01: 0", "gpu-01: 0", "gpu-02: 1"]);
  expect(await show(client, session)).toMatchObject({ state: "ended", releasedAt: null });
  expect((await ask(client, 2)).serverName).toBe("gpu-01");
  await settleUsage(db);
  const records = db.selectFrom("usage_records").select("ordinal").where("session_id", "=", session.id);
  expect(await records.execute()).toEqual([]);

  // What the agent had read before the end proves nothing.
  await obeyAs(client, second, { appliedRevision: before[1] ?? 0 });
  expect(await show(client, session)).toMatchObject({ releasedAt: null });
  await obeyAs(client, second);
  expect(await taken(client)).toEqual(["gpu-01: 1", "gpu-01: 1", "gpu-02: 0"]);
  expect(await show(client, session)).toMatchObject({ releasedAt: expect.any(String) });
});

test("a session that one of its servers cannot open ends, and the others are told", async () => {
  const { client, first, second } = await start();
  const session = await spread(client);
  await obeyAs(client, first);
  const { revision } = await desired(client, first);
  await obeyAs(client, second, {
    openSessions: [],
    failures: [{ sessionId: session.id, message: "the GPU is gone" }],
  });
  expect(await show(client, session)).toMatchObject({
    state: "ended",
    endReason: "refused-by-server",
    endMessage: "the server gpu-02 could not open the session: the GPU is gone",
  });
  expect((await desired(client, first)).revision).toBeGreaterThan(revision);
  expect(await part(client, first)).toEqual([]);
});

test("a session ends when one of its servers is lost; the others let go of their part by themselves", async () => {
  const { client, first, second, db } = await start();
  const session = await spread(client);
  await obeyAs(client, first);
  await obeyAs(client, second);
  await db
    .updateTable("servers")
    .set({ heard_at: nowPlus(-90_000), last_seen_at: nowPlus(-90_000) })
    .where("id", "=", second)
    .execute();
  const ended = await waitFor("the end", async () => {
    const shown = await show(client, session);
    return shown.state === "ended" ? shown : undefined;
  });
  expect(ended).toMatchObject({
    endReason: "server-lost",
    endMessage: "the server gpu-02 has not answered for 60 s",
    releasedAt: null,
  });
  expect(await db.selectFrom("outages").select("reason").execute()).toEqual([
    { reason: "the server gpu-02 was lost" },
  ]);
  await waitFor("the lost part", async () => ((await taken(client))[2] === "gpu-02: 0" ? true : undefined));
  expect(await taken(client)).toEqual(["gpu-01: 1", "gpu-01: 1", "gpu-02: 0"]);
  expect(await part(client, first)).toEqual([]);
  await obeyAs(client, first);
  expect(await taken(client)).toEqual(["gpu-01: 0", "gpu-01: 0", "gpu-02: 0"]);
  expect(await show(client, session)).toMatchObject({ releasedAt: expect.any(String) });
});

test("a session ends when one of its servers leaves the pool", async () => {
  const { admin, joinAs } = await startClockedPool(postgres);
  const first = await registerServer(admin, 2);
  const { machineId } = await joinAs("server", "gpu-02");
  await registerServer(admin, 1, { name: "gpu-02", id: machineId });
  const session = await spread(admin);
  expect(session.furtherServers).toMatchObject([{ id: machineId }]);
  await admin.call("revokeMachine", { params: { machineId }, body: { reason: "stolen" } });
  expect(await show(admin, session)).toMatchObject({ state: "ended", endReason: "server-lost" });
  expect(await part(admin, first)).toEqual([]);
});

test("after a restart every server of a session may be silent anew, not the first alone", async () => {
  const { client, first, second, db } = await start();
  await spread(client);
  const idle = await registerServer(client, 1, { name: "gpu-03" });
  // In one transaction: the manager that runs must not see the silence.
  const seen = await db.transaction().execute(async (tx) => {
    await tx
      .updateTable("servers")
      .set({ last_seen_at: nowPlus(-90_000) })
      .execute();
    await grantFreshPeriod(tx);
    const rows = await tx
      .selectFrom("servers")
      .select("id")
      .where("last_seen_at", ">", nowPlus(-60_000))
      .orderBy("name")
      .execute();
    await tx
      .updateTable("servers")
      .set({ last_seen_at: nowPlus(0) })
      .execute();
    return rows.map(({ id }) => id);
  });
  expect(seen).toEqual([first, second]);
  expect(seen).not.toContain(idle);
});

test("an extension is told to every server, and each knows when the session ends", async () => {
  const { client, first, second } = await start();
  const session = await spread(client, 3, { maxDurationMs: 60_000 });
  const ends = () =>
    Promise.all([first, second].map(async (server) => (await desired(client, server)).sessions[0]?.endsInMs));
  for (const ms of await ends()) expect(ms).toBeLessThanOrEqual(60_000);
  const before = await revisionsOf(client, [first, second]);
  await client.call("extendSession", { params: { sessionId: session.id }, body: { byMs: 60_000 } });
  expect(await revisionsOf(client, [first, second])).toEqual(before.map((revision) => revision + 1));
  for (const ms of await ends()) expect(ms).toBeGreaterThan(60_000);
});

test("a session is idle as far as all of its servers have told; use on any of them counts", async () => {
  const { client, first, second } = await start();
  const session = await spread(client, 3, { idleTimeoutMs: 1_500 });
  await obeyAs(client, first);
  await obeyAs(client, second, { workers: [worker(session, 2, 1)] });
  const used = (await show(client, session)).lastBusyAt;
  expect(used).not.toBeNull();
  // The first one has nothing to tell; the second is silent, and may be busy.
  const reporting = setInterval(() => void obeyAs(client, first).catch(() => undefined), 100);
  onTestFinished(() => clearInterval(reporting));
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(await show(client, session)).toMatchObject({ state: "active", lastBusyAt: used });
  const both = setInterval(() => void obeyAs(client, second).catch(() => undefined), 100);
  onTestFinished(() => clearInterval(both));
  await waitFor("the end", async () =>
    (await show(client, session)).endReason === "idle" ? true : undefined,
  );
});

test("usage records name each GPU's own server, with the busy time that its worker counted, and add up", async () => {
  const { client, first, second, db } = await start();
  const session = await spread(client);
  await obeyAs(client, first);
  await obeyAs(client, second);
  await obeyAs(client, first, { workers: [worker(session, 1, 0)] });
  await obeyAs(client, second, { workers: [worker(session, 2, 0)] });
  await new Promise((resolve) => setTimeout(resolve, 300));
  await finish(client, session);
  await obeyAs(client, first, { workers: [worker(session, 1, 100)] });
  // Of another server's worker it knows nothing, whatever it says.
  await obeyAs(client, second, { workers: [worker(session, 2, 30), worker(session, 1, 290)] });
  await settleUsage(db);
  // Parts in time: before the servers took connections, and after.
  const records = await db
    .selectFrom("usage_records")
    .select((eb) => ["gpu_uuid", "server_name", eb.fn.sum<number>("held_ms").as("held")])
    .select((eb) => eb.fn.sum<number>("busy_ms").as("busy"))
    .groupBy(["ordinal", "gpu_uuid", "server_id", "server_name"])
    .orderBy("ordinal")
    .execute();
  const heldMs = Number(records[0]?.held ?? 0);
  expect(heldMs).toBeGreaterThanOrEqual(300);
  expect(records.map((row) => [row.gpu_uuid, row.server_name, Number(row.held), Number(row.busy)])).toEqual([
    [uuid(first, 0), "gpu-01", heldMs, 50],
    [uuid(first, 1), "gpu-01", heldMs, 50],
    [uuid(second, 0), "gpu-02", heldMs, 30],
  ]);
  const { rows, total } = await client.call("usage", { query: { by: "server" } });
  expect(rows.map(({ key, heldMs: held, busyMs }) => [key, held, busyMs])).toEqual([
    ["gpu-01", 2 * heldMs, 100],
    ["gpu-02", heldMs, 30],
  ]);
  expect(total).toMatchObject({ sessions: 1, heldMs: 3 * heldMs, busyMs: 130 });
  expect((await client.call("usage", { query: { by: "process" } })).total).toEqual(total);
  // A worker's last word that comes late is told of its own server's GPUs.
  await obeyAs(client, second, { workers: [worker(session, 2, 37)] });
  const late = await client.call("usage", { query: { by: "server" } });
  expect(late.rows.map(({ key, busyMs }) => [key, busyMs])).toEqual([
    ["gpu-01", 100],
    ["gpu-02", 37],
  ]);
});

test("programs see the GPUs of all servers in their order, and the lowest driver", async () => {
  const { client, first, second, db } = await start();
  await sql`update servers set driver_version = '12.8', driver_release = '570.9.1', simulated = false
    where id = ${second}`.execute(db);
  const session = await spread(client);
  const read = () => client.call("sessionGpus", { params: { sessionId: session.id } });
  const gpus = [uuid(first, 0), uuid(first, 1), uuid(second, 0)].map((each) => ({ uuid: each }));
  expect(await read()).toMatchObject({ driverVersion: "12.8", simulated: false, gpus });
  await sql`update servers set driver_release = '570.10', simulated = false where id = ${first}`.execute(db);
  expect(await read()).toMatchObject({ driverVersion: "12.8", driverRelease: "570.9.1" });
  await sql`update servers set simulated = true`.execute(db);
  expect(await read()).toMatchObject({ driverRelease: "0.1.0", simulated: true });
});

test("who may have GPUs on several servers gets them on one where that is possible, as everybody else", async () => {
  const { client, first, db } = await start();
  const session = await spread(client, 2);
  expect(session).toMatchObject({ serverId: first, furtherServers: [] });
  expect(await partsOf(db)).toEqual([]);
  await expect(ask(client, 3)).rejects.toMatchObject({ code: "FARPOOL_NEVER_FITS" });
  await obeyAs(client, first);
  expect(await show(client, session)).toMatchObject({ state: "active" });
  await finish(client, session);
  await obeyAs(client, first);
  expect(await show(client, session)).toMatchObject({ releasedAt: expect.any(String) });
});

test("GPUs of several servers are kept for who waits for them, and the next pass knows it", async () => {
  const { client, first, second, db } = await start();
  await changeScheduling(db, { reserveAfterMs: 0 });
  const held = await ask(client, 1);
  expect(held.serverName).toBe("gpu-02");
  const waiting = await spread(client);
  expect(waiting.queue?.waitsFor).toBe("3 GPUs to become free, which are kept for it");
  const { reserved_server_id: keptOn } = await db
    .selectFrom("sessions")
    .select("reserved_server_id")
    .where("id", "=", waiting.id)
    .executeTakeFirstOrThrow();
  expect([first, second]).toContain(keptOn);
  expect(await ask(client, 1, { user: "dev2" })).toMatchObject({ state: "queued", queue: { position: 2 } });
  await finish(client, held);
  await obeyAs(client, second);
  expect(await show(client, waiting)).toMatchObject({ state: "granted", furtherServers: [{ id: second }] });
});

test("a request keeps its wish in the queue over a restart of the manager; others wait for one server", async () => {
  const { client, first, second, restart } = await start();
  const on = (name: string) => ask(client, 1, { filters: [`server.name=${name}`] });
  const held = [await on("gpu-01"), await on("gpu-02")];
  expect(held.map(({ serverName }) => serverName)).toEqual(["gpu-01", "gpu-02"]);
  const [together, anywhere] = [await ask(client, 2), await spread(client, 2)];
  expect(together.queue?.waitsFor).toBe("2 GPUs on one server: most are free on gpu-01, 1");
  expect(anywhere.queue?.waitsFor).toBe("2 GPUs, after 1 before it");
  await restart();
  await finish(client, held[1] ?? anywhere);
  await obeyAs(client, second);
  expect(await show(client, anywhere)).toMatchObject({ state: "granted", furtherServers: [{ id: second }] });
  expect(await show(client, together)).toMatchObject({ state: "queued" });
  expect(await part(client, first)).toHaveLength(2);
});

test("the session of a client service is on one server", async () => {
  const { client } = await start();
  await expect(spread(client, 3, { purpose: "service" })).rejects.toMatchObject({
    code: "FARPOOL_NOT_SUPPORTED",
    message: expect.stringContaining("a client service gets the GPUs of one server"),
  });
});

import type { ManagerClient } from "@farpool/client-api";
import { sessionIdSchema, type Session, type Size } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, startPool } from "./testing/pool.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

const finish = (client: ManagerClient, session: Session): Promise<Session> =>
  client.call("endSession", { params: { sessionId: session.id }, body: { reason: "finished" } });
const show = (client: ManagerClient, session: Session) =>
  client.call("showSession", { params: { sessionId: session.id } });

test("a session goes from requested to ended, every change an event", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const session = await ask(client, 1);
  expect(session).toMatchObject({
    state: "granted",
    serverName: "gpu-01",
    gpus: [{ memoryLimitBytes: null }],
  });
  await obey();
  expect(await show(client, session)).toMatchObject({ state: "active" });
  expect(await client.call("connectSession", { params: { sessionId: session.id } })).toMatchObject({
    secret: expect.stringMatching(/^[0-9a-f]{64}$/),
    endpoints: [{ kind: "tcp" }],
  });
  await finish(client, session);
  await obey();
  const ended = await show(client, session);
  expect(ended).toMatchObject({ state: "ended", endReason: "finished", releasedAt: expect.any(String) });
  expect(ended.events.map(({ state }) => state)).toEqual(["requested", "granted", "active", "ended"]);
});

test("GPUs of an ended session stay taken until the server has closed it", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const first = await ask(client, 1);
  await obey();
  const second = await ask(client, 1);
  expect(second).toMatchObject({ state: "queued", queue: { position: 1 } });
  await finish(client, first);
  expect(await show(client, second)).toMatchObject({ state: "queued" });
  // A report from before the end proves nothing: the server may still be opening the session.
  await obey({ appliedRevision: 1, openSessions: [] });
  expect(await show(client, second)).toMatchObject({ state: "queued" });
  await obey();
  expect(await show(client, second)).toMatchObject({ state: "granted" });
});

test("a long poll is woken when a queued session is granted", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const first = await ask(client, 1);
  await obey();
  const second = await ask(client, 1);
  const watch = async (revision: number): Promise<Session> => {
    const params = { sessionId: second.id };
    const session = await client.call("watchSession", { params, query: { revision } }, { timeoutMs: 30_000 });
    // That its turn has come nearer is news, too.
    return session.state === "queued" ? watch(session.revision) : session;
  };
  const watched = watch(second.revision);
  const startedAt = Date.now();
  await finish(client, first);
  await obey();
  expect(await watched).toMatchObject({ state: "granted" });
  expect(Date.now() - startedAt).toBeLessThan(2_000);
});

test("parallel requests never get the same memory twice", async () => {
  const { client } = await startPool(postgres, 4);
  const sizes: Size[] = [
    { kind: "whole" },
    { kind: "share", share: 0.5 },
    { kind: "memory", memoryMib: 3 * 1024 },
  ];
  await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      ask(client, 1 + (index % 2), { size: sizes[index % 3] ?? { kind: "whole" } }),
    ),
  );
  const { gpus } = await client.call("listGpus", {});
  for (const gpu of gpus) {
    const limits = gpu.sessions.map(({ memoryLimitBytes }) => memoryLimitBytes);
    const isWhole = limits.includes(null);
    expect(isWhole ? limits.length : 1).toBe(1);
    expect(limits.reduce<number>((sum, limit) => sum + (limit ?? 0), 0)).toBeLessThanOrEqual(
      gpu.memoryTotalBytes,
    );
  }
  const { sessions } = await client.call("listSessions", { query: {} });
  const queued = sessions.filter(({ state }) => state === "queued");
  expect(sessions).toHaveLength(40);
  expect(queued.map(({ queue }) => queue?.position)).toEqual(queued.map((_, index) => index + 1));
});

test("--wait 0 fails at once and leaves no trace, a wait that is over ends the session", async () => {
  const { client } = await startPool(postgres, 1);
  await ask(client, 1);
  await expect(ask(client, 1, { waitMs: 0 })).rejects.toMatchObject({
    code: "FARPOOL_WAIT_OVER",
    exitCode: 75,
  });
  const waiting = await ask(client, 1, { waitMs: 300 });
  await waitFor("the end of the wait", async () =>
    (await show(client, waiting)).state === "ended" ? true : undefined,
  );
  expect(await show(client, waiting)).toMatchObject({ endReason: "wait-over" });
  expect((await client.call("listSessions", { query: { ended: 10 } })).sessions).toHaveLength(2);
});

test("a client whose connection breaks loses its session in seconds, one that holds on keeps it", async () => {
  const { client, obey } = await startPool(postgres, 2);
  const [lost, kept] = [await ask(client, 1), await ask(client, 1)];
  await obey();
  const [breaking, holding] = [new AbortController(), new AbortController()];
  const hold = async (session: Session, signal: AbortSignal): Promise<void> => {
    for await (const _ of client.hold(session.id, signal));
  };
  const first = hold(lost, breaking.signal).catch(() => undefined);
  const second = hold(kept, holding.signal).catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 200));
  breaking.abort();
  const startedAt = Date.now();
  await waitFor("the end of the lost session", async () =>
    (await show(client, lost)).state === "ended" ? true : undefined,
  );
  expect(Date.now() - startedAt).toBeGreaterThan(2_000);
  expect(Date.now() - startedAt).toBeLessThan(6_000);
  expect(await show(client, lost)).toMatchObject({ endReason: "client-lost" });
  expect(await show(client, kept)).toMatchObject({ state: "active" });
  holding.abort();
  await Promise.all([first, second]);
});

test("a manager that restarts loses nothing and gives every lease a fresh period", async () => {
  const { client, obey, restart } = await startPool(postgres, 1);
  const running = await ask(client, 1);
  await obey();
  const waiting = await ask(client, 1);
  await restart();
  expect(await show(client, running)).toMatchObject({ state: "active" });
  expect(await show(client, waiting)).toMatchObject({ state: "queued", queue: { position: 1 } });
});

test("what a server refuses to open ends with the server's sentence", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const session = await ask(client, 1);
  await obey({ openSessions: [], failures: [{ sessionId: session.id, message: "no memory" }] });
  expect(await show(client, session)).toMatchObject({
    state: "ended",
    endReason: "refused-by-server",
    endMessage: expect.stringContaining("no memory"),
  });
});

test("who asks again with the same id, as a manager died before it answered, has one session", async () => {
  const { client, replica } = await startPool(postgres, 2);
  const other = await replica();
  const id = sessionIdSchema.parse("s-22223333");
  const first = await ask(client, 1, { id });
  expect(first).toMatchObject({ id, state: "granted" });
  expect(await ask(other, 1, { id })).toMatchObject({
    id,
    gpus: first.gpus,
  });
  const { sessions } = await client.call("listSessions", { query: {} });
  expect(sessions).toHaveLength(1);
  const { publicKey: clientKey } = generateSigningKey();
  await expect(ask(client, 1, { id, clientKey })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
    message: `there is a session ${id} already, of another client`,
  });
});

test("reports of workers become the session's usage", async () => {
  const { client, serverId, obey } = await startPool(postgres, 1);
  const session = await ask(client, 1);
  await obey();
  const uuid = session.gpus[0]?.uuid ?? "";
  const report = {
    calls: 12,
    roundTrips: 3,
    localCalls: 30,
    bytesReceived: 1000,
    bytesSent: 2000,
    kernelLaunches: 4,
    busyMs: 250,
    memoryPeakBytes: 4096,
    perGpu: [{ uuid, memoryUsedBytes: 4096 }],
  };
  const worker = {
    pid: 7,
    connectionId: "0".repeat(32),
    clientPid: 42,
    program: "train",
    sandbox: ["seccomp"],
    startedAt: new Date().toISOString(),
    report,
  };
  await obey({ workers: [{ sessionId: session.id, worker }] });
  expect(await client.call("listGpus", {})).toMatchObject({
    gpus: [{ sessions: [{ memoryUsedBytes: 4096 }] }],
  });
  await obey({
    workers: [
      { sessionId: session.id, worker: { ...worker, endedAt: new Date().toISOString(), exit: { code: 0 } } },
    ],
  });
  expect(await show(client, session)).toMatchObject({
    serverId,
    usage: { processes: 1, calls: 12, roundTrips: 3, busyMs: 250 },
    processes: [{ program: "train", exit: "code 0", sandbox: ["seccomp"] }],
  });
  expect(await client.call("listGpus", {})).toMatchObject({ gpus: [{ sessions: [{ memoryUsedBytes: 0 }] }] });
});

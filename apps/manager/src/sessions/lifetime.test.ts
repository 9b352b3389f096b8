import type { ManagerClient } from "@farpool/client-api";
import type { HoldLine, Session, SessionNotice, SessionRequest } from "@farpool/contract";
import { startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { CLIENT, startPool, type TestPool } from "../testing/pool.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

type Times = Partial<Pick<SessionRequest, "purpose" | "idleTimeoutMs" | "maxDurationMs" | "autoReleaseMs">>;

const ask = (client: ManagerClient, times: Times): Promise<Session> =>
  client.call("createSession", {
    body: {
      count: 1,
      size: { kind: "whole" },
      name: null,
      client: { host: "ws-17", user: "dev1", pid: 42, program: "train" },
      clientKey: CLIENT.publicKey,
      waitMs: null,
      ...times,
    },
  });
const show = (client: ManagerClient, { id }: Session) =>
  client.call("showSession", { params: { sessionId: id } });

interface Held {
  readonly lines: HoldLine[];
  readonly notices: () => SessionNotice[];
  stop(): Promise<void>;
}

function hold(client: ManagerClient, session: Session, after?: number): Held {
  const lines: HoldLine[] = [];
  const stopping = new AbortController();
  const work = (async () => {
    for await (const line of client.hold(session.id, stopping.signal, after)) lines.push(line);
  })().catch(() => undefined);
  const stop = async (): Promise<void> => {
    stopping.abort();
    await work;
  };
  onTestFinished(stop);
  return { lines, notices: () => lines.flatMap(({ notices }) => notices), stop };
}

/** The agent's report: a worker that has made so many calls, and holds memory whatever it does. */
function report({ obey }: TestPool, session: Session, calls: number): Promise<void> {
  const uuid = session.gpus[0]?.uuid ?? "";
  const counts = { roundTrips: 3, localCalls: 0, bytesReceived: 10, bytesSent: 20, kernelLaunches: 4 };
  return obey({
    workers: [
      {
        sessionId: session.id,
        worker: {
          ...{ pid: 7, connectionId: "0".repeat(32), clientPid: 42, program: "train" },
          startedAt: new Date().toISOString(),
          report: {
            ...{ calls, busyMs: 250, memoryPeakBytes: 4096, ...counts },
            perGpu: [{ uuid, memoryUsedBytes: 4096 }],
          },
        },
      },
    ],
  });
}

const ended = (client: ManagerClient, session: Session) =>
  waitFor("the end", async () => {
    const shown = await show(client, session);
    return shown.state === "ended" ? shown : undefined;
  });

test("a session that only holds memory is idle: warned, then ended; one that makes calls goes on", async () => {
  const pool = await startPool(postgres, 1);
  const { client, obey } = pool;
  const session = await ask(client, { idleTimeoutMs: 1_500 });
  await obey();
  const held = hold(client, session);
  for (let calls = 1; calls <= 20; calls += 1) {
    await report(pool, session, calls);
    await new Promise((resolve) => setTimeout(resolve, 150));
  }
  expect(await show(client, session)).toMatchObject({ state: "active", lastBusyAt: expect.any(String) });
  expect(held.notices()).toEqual([]);
  const idle = setInterval(() => void report(pool, session, 20).catch(() => undefined), 100);
  onTestFinished(() => clearInterval(idle));
  const { endReason, endMessage } = await ended(client, session);
  clearInterval(idle);
  expect({ endReason, endMessage }).toEqual({
    endReason: "idle",
    endMessage: expect.stringMatching(
      /^idle for \d+\.\d s: no kernel, copy or call of its programs \(its idle timeout is 1\.5 s\)$/,
    ),
  });
  expect(held.notices()).toMatchObject([{ kind: "idle", text: expect.stringContaining("unless a program") }]);
  await waitFor("the last line", () => (held.lines.at(-1)?.state === "ended" ? true : undefined));
});

test("while a server says nothing, its sessions are not idle", async () => {
  const pool = await startPool(postgres, 1);
  const session = await ask(pool.client, { idleTimeoutMs: 500 });
  await pool.obey();
  await report(pool, session, 1);
  const held = hold(pool.client, session);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await show(pool.client, session)).toMatchObject({ state: "active" });
  expect(held.notices()).toEqual([]);
});

test("a maximum duration ends a session that is busy, after a warning", async () => {
  const pool = await startPool(postgres, 1);
  const session = await ask(pool.client, { maxDurationMs: 2_000 });
  await pool.obey();
  const held = hold(pool.client, session);
  expect(await ended(pool.client, session)).toMatchObject({
    endReason: "duration",
    endMessage: "its maximum duration of 2.0 s is over",
    expiresAt: expect.any(String),
  });
  expect(held.notices()).toMatchObject([
    { kind: "duration", text: expect.stringContaining("farpool sessions extend") },
  ]);
});

test("a server is told when its sessions end, and what an extension changes", async () => {
  const { client, serverId } = await startPool(postgres, 2);
  const [free, bounded] = [await ask(client, {}), await ask(client, { maxDurationMs: 60_000 })];
  const desired = async (revision: number) => {
    const state = await client.call("watchDesired", {
      params: { serverId },
      query: { revision, timeoutMs: 0 },
    });
    return {
      revision: state.revision,
      ends: new Map(state.sessions.map(({ id, endsInMs }) => [id, endsInMs])),
    };
  };
  const { revision, ends } = await desired(0);
  expect(ends.get(free.id)).toBeNull();
  expect(ends.get(bounded.id)).toBeGreaterThan(50_000);
  expect(ends.get(bounded.id)).toBeLessThanOrEqual(60_000);
  await client.call("extendSession", { params: { sessionId: bounded.id }, body: { byMs: 60_000 } });
  const later = await desired(0);
  expect(later.revision).toBeGreaterThan(revision);
  expect(later.ends.get(bounded.id)).toBeGreaterThan(110_000);
});

test("an extension moves the end, and policies bound it", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  const params = (session: Session) => ({ params: { sessionId: session.id } });
  await client.call("setPolicy", {
    body: { scope: { kind: "pool", name: "" }, fields: { maxDurationMs: { value: 3_600_000, hard: true } } },
  });
  const session = await ask(client, { maxDurationMs: 60_000 });
  await pool.obey();
  hold(client, session);
  expect(await client.call("extendSession", { ...params(session), body: { byMs: 60_000 } })).toMatchObject({
    maxDurationMs: 120_000,
  });
  await expect(
    client.call("extendSession", { ...params(session), body: { byMs: 3_600_000 } }),
  ).rejects.toMatchObject({
    code: "FARPOOL_POLICY",
    exitCode: 77,
    message: "policy 'maximum duration': asked for 1 h 2 min, allowed: 1 h (policy of the pool, hard)",
    hint: expect.stringContaining("an administrator of the pool"),
  });
  const { entries } = await client.call("audit", { query: {} });
  expect(entries).toContainEqual(
    expect.objectContaining({
      kind: "session-extended",
      sessionId: session.id,
      reason: "extended by 1 min, to 2 min",
    }),
  );
  await client.call("endSession", { ...params(session), body: { reason: "finished" } });
  await expect(
    client.call("extendSession", { ...params(session), body: { byMs: 1_000 } }),
  ).rejects.toMatchObject({ code: "FARPOOL_SESSION_ENDED" });
});

test("a message reaches who holds the session, once, also when the stream broke meanwhile", async () => {
  const pool = await startPool(postgres, 1);
  const { client } = pool;
  const session = await ask(client, {});
  await pool.obey();
  const message = (text: string) =>
    client.call("messageSession", { params: { sessionId: session.id }, body: { text } });
  await message("before anybody held it");
  const first = hold(client, session);
  await waitFor("the first line", () => (first.lines.length > 0 ? true : undefined));
  await message("please finish");
  await waitFor("the message", () => (first.notices().length > 0 ? true : undefined));
  expect(first.notices().map(({ text }) => text)).toEqual(["please finish"]);
  await first.stop();
  await message("while nobody held it");
  const second = hold(client, session, first.lines.at(-1)?.lastNotice);
  await waitFor("the missed one", () => (second.notices().length > 0 ? true : undefined));
  expect(second.notices().map(({ text }) => text)).toEqual(["while nobody held it"]);
});

test("a reserved session lives without anybody, until nothing was attached for long enough", async () => {
  const pool = await startPool(postgres, 3);
  const { client } = pool;
  const [kept, left, run] = [
    await ask(client, { purpose: "reserve" }),
    await ask(client, { purpose: "reserve", autoReleaseMs: 14_000 }),
    await ask(client, {}),
  ];
  await pool.obey();
  // Nobody holds any of them: that one is lost.
  expect(await ended(client, run)).toMatchObject({ endReason: "client-lost" });
  const attached = hold(client, left);
  await waitFor("the attachment", () => (attached.lines.length > 0 ? true : undefined));
  await attached.stop();
  expect(await show(client, left)).toMatchObject({ state: "active" });
  const over = await waitFor(
    "the release",
    async () => {
      const shown = await show(client, left);
      return shown.state === "ended" ? shown : undefined;
    },
    30_000,
  );
  expect(over).toMatchObject({ endReason: "released", endMessage: "nothing was attached to it for 14 s" });
  expect(await show(client, kept)).toMatchObject({ state: "active", purpose: "reserve" });
  await expect(client.call("releaseSession", { params: { sessionId: run.id } })).rejects.toMatchObject({
    code: "FARPOOL_SESSION_ENDED",
  });
  expect(await client.call("releaseSession", { params: { sessionId: kept.id } })).toMatchObject({
    state: "ended",
    endReason: "released",
  });
});

test("a reservation whose process dies in the queue leaves it", async () => {
  const pool = await startPool(postgres, 1);
  const first = await ask(pool.client, {});
  await pool.obey();
  hold(pool.client, first);
  const waiting = await ask(pool.client, { purpose: "reserve" });
  expect(waiting.state).toBe("queued");
  expect(await ended(pool.client, waiting)).toMatchObject({ endReason: "client-lost" });
});

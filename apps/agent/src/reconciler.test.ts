import { randomUUID } from "node:crypto";
import {
  gpuUuidSchema,
  serverIdSchema,
  sessionIdSchema,
  thumbprintSchema,
  workerSchema,
  type AgentReport,
  type DesiredState,
  type SessionId,
} from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { waitFor } from "@farpool/testkit";
import { pino } from "pino";
import { expect, test } from "vitest";
import type { AcceptorConnection } from "./acceptor-connection.ts";
import type { AcceptorSession, AcceptorStatus } from "./acceptor-protocol.ts";
import type { Ends } from "./ends.ts";
import { createReconciler } from "./reconciler.ts";

const serverId = serverIdSchema.parse(randomUUID());
const manager = generateSigningKey();
const revokedClient = thumbprintSchema.parse(generateSigningKey().thumbprint);
const id = sessionIdSchema.parse("s-one");

function desired(revision: number, revoked: DesiredState["trust"]["revoked"]): DesiredState {
  const gpus = [{ uuid: gpuUuidSchema.parse("GPU-1"), memoryLimitBytes: null }];
  return {
    revision,
    sessions: [{ id, secret: "0".repeat(64), gpus, graceSeconds: 120, endsInMs: null }],
    trust: { managerKeys: [{ kid: manager.thumbprint, x: manager.publicKey.x }], revoked },
  };
}

/** An acceptor that holds what it was told to open. */
function acceptor(pid = 1, left: readonly SessionId[] = [], ended: AcceptorStatus["ended"] = []) {
  const opened: AcceptorSession[] = [];
  const forgotten: string[] = [];
  const closings: Array<readonly [SessionId, string]> = [];
  const gone = new Set<SessionId>();
  const link: AcceptorConnection = {
    hello: { version: 1, pid, port: 7445 },
    closed: new Promise(() => undefined),
    openSession(session) {
      opened.push(session);
      return Promise.resolve();
    },
    closeSession(closed, reason) {
      closings.push([closed, reason]);
      gone.add(closed);
      return Promise.resolve();
    },
    status: () =>
      Promise.resolve({
        sessions: [...new Set([...left, ...opened.map((session) => session.id)])]
          .filter((id) => !gone.has(id))
          .map((id) => ({
            id,
            gpus: desired(1, []).sessions[0]?.gpus ?? [],
            isOpen: opened.some((session) => session.id === id),
            workers: [],
          })),
        ended,
      }),
    forget(connections) {
      forgotten.push(...connections);
      ended = ended.filter(({ worker }) => !connections.includes(worker.connectionId));
      return Promise.resolve();
    },
    end: () => undefined,
  };
  return { opened, forgotten, closings, link };
}

function start(ends?: Ends) {
  const reports: AgentReport[] = [];
  const state = { isAway: false };
  const reconciler = createReconciler({
    serverId,
    ...(ends && { ends }),
    logger: pino({ level: "silent" }),
    send(report) {
      if (state.isAway) return Promise.reject(new Error("it is away"));
      reports.push(report);
      return Promise.resolve();
    },
  });
  const reported = (revision: number) =>
    waitFor(`revision ${revision}`, () => (reports.at(-1)?.appliedRevision === revision ? true : undefined));
  return { reconciler, reports, reported, state };
}

test("a session is opened with whom to trust, and is told again when that has changed, once", async () => {
  const { reconciler, reported } = start();
  const { opened, link } = acceptor();
  reconciler.setAcceptor(link);
  reconciler.setDesired(desired(1, []));
  await reported(1);
  expect(opened).toMatchObject([
    { id, graceSeconds: 120, trust: { serverId, managerKeys: [{ kid: manager.thumbprint }], revoked: [] } },
  ]);
  reconciler.setDesired(desired(2, []));
  await reported(2);
  expect(opened).toHaveLength(1);
  reconciler.setDesired(desired(3, [revokedClient]));
  await reported(3);
  expect(opened.slice(1)).toMatchObject([{ id, trust: { serverId, revoked: [revokedClient] } }]);
});

test("sessions that an agent finds open are told whom to trust now: its predecessor may not have been", async () => {
  const { opened, link } = acceptor();
  const first = start();
  first.reconciler.setAcceptor(link);
  first.reconciler.setDesired(desired(1, []));
  await first.reported(1);
  const second = start();
  second.reconciler.setDesired(desired(2, [revokedClient]));
  second.reconciler.setAcceptor(link);
  await second.reported(2);
  expect(opened.map(({ trust }) => trust.revoked)).toEqual([[], [revokedClient]]);
});

test("a session that another acceptor process took over is opened there again", async () => {
  const { reconciler, reports, reported } = start();
  const first = acceptor();
  reconciler.setAcceptor(first.link);
  reconciler.setDesired(desired(1, []));
  await reported(1);
  const second = acceptor(2, [id]);
  reconciler.setAcceptor(undefined);
  reconciler.setAcceptor(second.link);
  await waitFor("it is opened", () => (second.opened.length > 0 ? true : undefined));
  reconciler.setDesired(desired(2, []));
  await reported(2);
  expect(second.opened.map((session) => session.id)).toEqual([id]);
  expect(reports.every(({ openSessions }) => openSessions.includes(id))).toBe(true);
});

test("refusals are told with the next report that arrives, and once", async () => {
  const { reconciler, reports, reported, state } = start();
  const { link } = acceptor();
  reconciler.setAcceptor(link);
  state.isAway = true;
  reconciler.onEvent({
    event: "refused",
    sessionId: null,
    connectionId: "f".repeat(32),
    peer: "192.0.2.7:40000",
    reason: "there is no session s-gone",
    at: new Date().toISOString(),
  });
  reconciler.setDesired(desired(1, []));
  await new Promise((resolve) => setTimeout(resolve, 50));
  state.isAway = false;
  reconciler.setDesired(desired(2, []));
  await reported(2);
  expect(reports.at(-1)?.refusals).toMatchObject([
    { sessionId: null, connectionId: "f".repeat(32), reason: "there is no session s-gone" },
  ]);
  reconciler.setDesired(desired(3, []));
  await reported(3);
  expect(reports.at(-1)?.refusals).toEqual([]);
});

test("last words of workers that a dead agent had not passed on are told, and forgotten only then", async () => {
  const { reconciler, reports, reported, state } = start();
  const worker = workerSchema.parse({
    pid: 7,
    connectionId: "a".repeat(32),
    startedAt: "2026-11-30T11:00:00Z",
    endedAt: "2026-11-30T12:00:00Z",
    exit: { code: 0 },
  });
  const { link, forgotten } = acceptor(1, [], [{ sessionId: sessionIdSchema.parse("s-over"), worker }]);
  state.isAway = true;
  reconciler.setAcceptor(link);
  reconciler.setDesired(desired(1, []));
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(forgotten).toEqual([]);
  state.isAway = false;
  reconciler.setDesired(desired(2, []));
  await reported(2);
  expect(reports.at(-1)?.workers).toMatchObject([{ sessionId: "s-over", worker: { exit: "code 0" } }]);
  await waitFor("it is forgotten", () => (forgotten.length > 0 ? true : undefined));
  reconciler.setDesired(desired(3, []));
  await reported(3);
  expect(reports.at(-1)?.workers).toEqual([]);
});

test("a session whose time is over is closed by the server itself while the manager is away, by a new agent, too", async () => {
  const over = new Set<SessionId>();
  const ends: Ends = { note: () => undefined, isOver: (each) => over.has(each), nextMs: () => undefined };
  const { link, opened, closings } = acceptor();
  const first = start(ends);
  first.reconciler.setAcceptor(link);
  first.reconciler.setDesired(desired(1, []));
  await first.reported(1);
  first.state.isAway = true;
  over.add(id);
  first.reconciler.poke();
  await waitFor("it is closed", () => (closings.length > 0 ? true : undefined));
  expect(closings[0]).toEqual([id, expect.stringContaining("its maximum duration is over")]);
  const next = acceptor(2, [id]);
  const second = start(ends);
  second.reconciler.setAcceptor(next.link);
  await waitFor("it is closed again", () => (next.closings.length > 0 ? true : undefined));
  // The manager is back and has not ended it yet: it is not opened again.
  second.reconciler.setDesired(desired(2, []));
  await second.reported(2);
  expect([opened.length, next.opened.length]).toEqual([1, 0]);
});

test("a report that would say what the last one said need not be sent; one with news must", async () => {
  const { reconciler, reported, state } = start();
  const { link } = acceptor();
  reconciler.setAcceptor(link);
  expect(await reconciler.hasNothingNew()).toBe(false);
  reconciler.setDesired(desired(1, []));
  await reported(1);
  reconciler.setDesired(desired(2, []));
  await reported(2);
  await waitFor("it is settled", async () => ((await reconciler.hasNothingNew()) ? true : undefined));
  state.isAway = true;
  reconciler.setDesired(desired(3, []));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await reconciler.hasNothingNew()).toBe(false);
});

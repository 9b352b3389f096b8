import { parseFilter } from "@farpool/contract";
import { expect, test } from "vitest";
import type { ServerCapacity } from "./capacity.ts";
import { explain } from "./explain.ts";
import { accrued, Accounts, decayed, jain, type Account } from "./fair-share.ts";
import { PastLengths } from "./lengths.ts";
import { PoolIndex } from "./pool-index.ts";
import { schedule, type PassInput, type PassResult } from "./queue.ts";
import { DEFAULT_SCHEDULING } from "./settings.ts";
import { MINUTE, running, server, serverId, sessionId, waiting } from "./testing/servers.ts";
import type { RunningSession, WaitingSession } from "./wish.ts";

const NOBODY: Account = { usedGpuSeconds: 0, heldGpus: 0 };

interface Situation extends Partial<Omit<PassInput, "accounts" | "index">> {
  readonly servers: readonly ServerCapacity[];
  readonly running?: readonly RunningSession[];
  readonly accounts?: Readonly<Record<string, Account>>;
}

function pass({ servers, running: held = [], accounts = {}, ...more }: Situation) {
  const index = new PoolIndex(servers, held);
  const lengths = more.lengths ?? new PastLengths();
  const nowMs = more.nowMs ?? 0;
  const result = schedule({
    nowMs,
    waiting: [],
    settings: DEFAULT_SCHEDULING,
    ...more,
    index,
    lengths,
    accounts: (user) => accounts[user] ?? NOBODY,
  });
  return { result, told: explain(result) };
}

const granted = ({ grants }: PassResult): string[] => grants.map(({ session }) => session.id);
const queue = (result: PassResult): string[] => result.queue.map(({ session }) => session.id);

test("a pass never gives the same memory twice", () => {
  const size = { kind: "share", share: 0.5 } as const;
  const { result } = pass({
    servers: [server(1, [[]])],
    waiting: ["aaa", "bbb", "ccc"].map((name) => waiting(name, { size })),
  });
  expect(granted(result)).toEqual(["s-aaa", "s-bbb"]);
  expect(queue(result)).toEqual(["s-ccc"]);
});

test("GPUs of one session are granted together or not at all", () => {
  const { result } = pass({
    servers: [server(1, [[], [], [null]])],
    waiting: [waiting("big", { count: 3 })],
  });
  expect(result).toMatchObject({ grants: [], queue: [{ position: 1 }] });
});

test("the user who has had the least comes first", () => {
  const sessions = [waiting("old", { user: "ann" }), waiting("new", { user: "ben" })];
  const servers = [server(1, [[]])];
  const had = { usedGpuSeconds: 3_600, heldGpus: 0 };
  expect(granted(pass({ servers, waiting: sessions }).result)).toEqual(["s-old"]);
  expect(granted(pass({ servers, waiting: sessions, accounts: { ann: had } }).result)).toEqual(["s-new"]);
});

test("users take turns in one pass, however much one of them asks for", () => {
  const many = ["a1a", "a2a", "a3a", "a4a"].map((name) => waiting(name, { user: "ann" }));
  const few = ["b1b", "b2b"].map((name) => waiting(name, { user: "ben" }));
  const { result } = pass({ servers: [server(1, [[], [], []])], waiting: [...many, ...few] });
  expect([...granted(result), ...queue(result)]).toEqual([
    ...["s-a1a", "s-b1b", "s-a2a"],
    ...["s-b2b", "s-a3a", "s-a4a"],
  ]);
});

test("what a user holds counts like what it had", () => {
  const sessions = [waiting("ann", { user: "ann" }), waiting("ben", { user: "ben" })];
  const accounts = { ann: { usedGpuSeconds: 10, heldGpus: 4 }, ben: { usedGpuSeconds: 100, heldGpus: 0 } };
  expect(granted(pass({ servers: [server(1, [[]])], waiting: sessions, accounts }).result)).toEqual([
    "s-ben",
  ]);
});

test("a higher priority comes first, and waiting raises the lower one", () => {
  const sessions = (ageMs: number): WaitingSession[] => [
    waiting("low", { user: "ann", priority: 40, requestedAtMs: -ageMs }),
    waiting("high", { user: "ben", priority: 50 }),
  ];
  const servers = [server(1, [[]])];
  const { agingMs } = DEFAULT_SCHEDULING;
  expect(granted(pass({ servers, waiting: sessions(9 * agingMs) }).result)).toEqual(["s-high"]);
  expect(granted(pass({ servers, waiting: sessions(10 * agingMs) }).result)).toEqual(["s-low"]);
});

test("age alone gives nobody more than their share", () => {
  const sessions = [
    waiting("aged", { user: "ann", requestedAtMs: -600 * MINUTE }),
    waiting("young", { user: "ben" }),
  ];
  const accounts = { ann: { usedGpuSeconds: 1_000, heldGpus: 0 } };
  expect(granted(pass({ servers: [server(1, [[]])], waiting: sessions, accounts }).result)).toEqual([
    "s-young",
  ]);
});

test("half of what was had is forgotten after the half-life", () => {
  expect(decayed(100, 5_000, 5_000)).toBe(50);
  // Held for ever, it comes to one half-life divided by ln 2.
  expect(accrued(2, 1e12, 1_000)).toBeCloseTo(2 / Math.LN2);
  const accounts = new Accounts(10_000);
  accounts.hold("ann", 2, 0);
  accounts.hold("ann", -2, 10_000);
  const atEnd = accounts.at("ann", 10_000).usedGpuSeconds;
  expect(atEnd).toBeCloseTo(accrued(2, 10_000, 10_000));
  expect(accounts.at("ann", 20_000)).toEqual({ usedGpuSeconds: atEnd / 2, heldGpus: 0 });
});

test("Jain's index is 1 for equals and 1/n for one who has all", () => {
  expect(jain([3, 3, 3])).toBe(1);
  expect(jain([9, 0, 0])).toBeCloseTo(1 / 3);
});

const BIG = { count: 2, requestedAtMs: -3 * MINUTE, queueNumber: 0 } as const;

test("GPUs are kept on several servers for who may have them there, until all of them are free", () => {
  const servers = [server(1, [[], [null]]), server(2, [[null]])];
  const held = [running("one", [1, 1], 10 * MINUTE), running("two", [2, 0], 20 * MINUTE)];
  const wide = { ...BIG, count: 3, spreadServers: true };
  const small = waiting("small", { user: "ben" });
  const first = pass({ servers, running: held, waiting: [waiting("wide", wide), small] });
  expect(granted(first.result)).toEqual([]);
  expect(first.result.reservations).toMatchObject([
    { sessionId: "s-wide", serverId: null, keptOn: serverId(1), knownMs: 20 * MINUTE },
  ]);
  expect(first.told).toMatchObject([
    { waitsFor: "3 GPUs to become free, which are kept for it", estimateMs: 20 * MINUTE },
    { waitsFor: "1 GPU: what is free is kept for s-wide, which has waited longer" },
  ]);
  // Who is gone in time goes before it.
  const short = waiting("short", { user: "ben", maxDurationMs: 19 * MINUTE });
  expect(granted(pass({ servers, running: held, waiting: [waiting("wide", wide), short] }).result)).toEqual([
    "s-short",
  ]);
  // The next pass keeps them, too, whatever its user has had meanwhile.
  const accounts = { dev1: { usedGpuSeconds: 1_000, heldGpus: 0 } };
  const before = waiting("wide", { ...wide, reservedOn: serverId(1) });
  const next = pass({ servers, running: held, waiting: [before, small], accounts });
  expect(granted(next.result)).toEqual([]);
  expect(queue(next.result)).toEqual(["s-wide", "s-small"]);
  const free = [server(1, [[], []]), server(2, [[]])];
  expect(pass({ servers: free, waiting: [before, small], accounts }).result.grants[0]).toMatchObject({
    session: { id: "s-wide" },
    placement: { servers: [{ serverId: serverId(1) }, { serverId: serverId(2) }] },
  });
});

test("for who may be spread and need not be, nothing is kept that comes free by itself", () => {
  const servers = [server(1, [[null]]), server(2, [[null], [null]])];
  const held = [running("one", [1, 0], 10 * MINUTE), running("two", [2, 0, 1], 5 * MINUTE)];
  const lone = waiting("lone", { ...BIG, count: 1, spreadServers: true });
  expect(pass({ servers, running: held, waiting: [lone] }).result.reservations).toEqual([]);
  // The two that one session has come free together, before the other.
  const pair = waiting("pair", { ...BIG, count: 2, spreadServers: true });
  expect(pass({ servers, running: held, waiting: [pair] }).result.reservations).toEqual([]);
  const three = waiting("three", { ...BIG, count: 3, spreadServers: true });
  const next = waiting("next", { ...BIG, count: 3, spreadServers: true, queueNumber: 1 });
  expect(pass({ servers, running: held, waiting: [three, next] }).result.reservations).toMatchObject([
    { sessionId: "s-three" },
  ]);
});

test("a session on several servers comes free on each of them", () => {
  const wide = running("wide", [1, 0], 10 * MINUTE);
  const other = running("wide", [2, 0]).placement.servers;
  const held = [{ ...wide, placement: { servers: [...wide.placement.servers, ...other] } }];
  const { told } = pass({
    servers: [server(1, [[null]]), server(2, [[null]])],
    running: held,
    waiting: [waiting("one"), waiting("two", { filters: [parseFilter("server.name=gpu-02")] })],
  });
  expect(told.map(({ estimateMs }) => estimateMs)).toEqual([10 * MINUTE, 10 * MINUTE]);
});

test("before its time the first in the queue is overtaken by smaller ones, then GPUs are kept for it", () => {
  const servers = [server(1, [[null], []])];
  const held = [running("held", [1, 0])];
  const small = waiting("small", { user: "ben" });
  const early = pass({
    servers,
    running: held,
    waiting: [waiting("big", { ...BIG, requestedAtMs: 0 }), small],
  });
  expect(granted(early.result)).toEqual(["s-small"]);
  const late = pass({ servers, running: held, waiting: [waiting("big", BIG), small] });
  expect(granted(late.result)).toEqual([]);
  expect(late.result.reservations).toMatchObject([
    { sessionId: "s-big", serverId: serverId(1), knownMs: null },
  ]);
  expect(late.told.map(({ waitsFor }) => waitsFor)).toEqual([
    "2 GPUs to become free on gpu-01, kept for it",
    "1 GPU: what is free is kept for s-big, which has waited longer",
  ]);
});

test("backfill: only who is known to be gone in time", () => {
  const servers = [server(1, [[null], []])];
  const held = [running("held", [1, 0], 10 * MINUTE)];
  const sessions = [
    waiting("big", BIG),
    waiting("unknown", { user: "ben" }),
    waiting("long", { user: "cat", maxDurationMs: 11 * MINUTE }),
    waiting("short", { user: "dan", maxDurationMs: 10 * MINUTE }),
  ];
  const { result } = pass({ servers, running: held, waiting: sessions });
  expect(granted(result)).toEqual(["s-short"]);
  expect(result.reservations).toMatchObject([{ knownMs: 10 * MINUTE }]);
});

test("backfill: a server that is not kept takes whoever comes", () => {
  const servers = [server(1, [[null], []]), server(2, [[]])];
  const { result } = pass({
    servers,
    running: [running("held", [1, 0])],
    waiting: [waiting("big", BIG), waiting("small", { user: "ben" })],
  });
  expect(result.grants).toMatchObject([{ placement: { servers: [{ serverId: serverId(2) }] } }]);
});

test("GPUs are kept where the others go first, and stay kept there", () => {
  const servers = [server(1, [[null], []]), server(2, [[null], []])];
  const held = [running("later", [1, 0], 30 * MINUTE), running("sooner", [2, 0], 20 * MINUTE)];
  const first = pass({ servers, running: held, waiting: [waiting("big", BIG)] });
  expect(first.result.reservations).toMatchObject([{ serverId: serverId(2), knownMs: 20 * MINUTE }]);
  const before = waiting("big", { ...BIG, reservedOn: serverId(1) });
  const again = pass({ servers, running: held, waiting: [before] });
  expect(again.result.reservations).toMatchObject([{ serverId: serverId(1), knownMs: 30 * MINUTE }]);
});

test("nothing is kept where waiting for GPUs that come free together takes no longer", () => {
  const servers = [server(1, [[null], []]), server(2, [[null], [null]])];
  const one = running("one", [1, 0], 30 * MINUTE);
  const both = (minutes: number): RunningSession => running("both", [2, 0, 1], minutes * MINUTE);
  const [soon, late] = [20, 40].map((minutes) =>
    pass({ servers, running: [one, both(minutes)], waiting: [waiting("big", BIG)] }),
  );
  expect(soon?.result.reservations).toEqual([]);
  expect(late?.result.reservations).toMatchObject([{ serverId: serverId(1) }]);
});

test("what was collected for one who found GPUs elsewhere is passed on to the next", () => {
  const servers = [server(1, [[null], []]), server(2, [[null], []]), server(3, [[], []])];
  const held = [running("later", [1, 0], 30 * MINUTE), running("sooner", [2, 0], 20 * MINUTE)];
  const { result } = pass({
    servers,
    running: held,
    waiting: [
      waiting("big", { ...BIG, reservedOn: serverId(1) }),
      waiting("next", { ...BIG, user: "ben", queueNumber: 1 }),
    ],
  });
  expect(granted(result)).toEqual(["s-big"]);
  expect(result.reservations).toMatchObject([{ sessionId: "s-next", serverId: serverId(1) }]);
});

test("what was collected is given up where somebody stays much longer than on another server", () => {
  const servers = [server(1, [[null], []]), server(2, [[null], []])];
  const held = [running("long", [1, 0], 90 * MINUTE), running("short", [2, 0], 20 * MINUTE)];
  const before = waiting("big", { ...BIG, reservedOn: serverId(1) });
  const { result } = pass({ servers, running: held, waiting: [before] });
  expect(result.reservations).toMatchObject([{ serverId: serverId(2) }]);
});

test("of those for whom GPUs are kept, who has had the least comes first", () => {
  const servers = [server(1, [[null], []]), server(2, [[], []])];
  const { result } = pass({
    servers,
    running: [running("held", [1, 0], 30 * MINUTE)],
    waiting: [
      waiting("much", { ...BIG, reservedOn: serverId(1) }),
      waiting("little", { ...BIG, user: "ben", reservedOn: serverId(2), queueNumber: 1 }),
    ],
    accounts: { dev1: { usedGpuSeconds: 9_000, heldGpus: 0 } },
  });
  expect(granted(result)).toEqual(["s-little"]);
});

test("GPUs are kept for slices, too: of those that go, the first few", () => {
  const servers = [server(1, [[8, 4]])];
  const slice = (name: string, gib: number, minutes: number): RunningSession => {
    const whole = running(name, [1, 0], minutes * MINUTE);
    const gpus = whole.placement.servers.flatMap((each) =>
      each.gpus.map(({ uuid }) => ({ uuid, memoryLimitBytes: gib * 1024 ** 3 })),
    );
    return { ...whole, placement: { servers: [{ serverId: serverId(1), gpus }] } };
  };
  const wish = waiting("want", { size: { kind: "memory", memoryMib: 8 * 1024 }, requestedAtMs: -3 * MINUTE });
  const { result } = pass({
    servers,
    running: [slice("large", 8, 50), slice("small", 4, 5)],
    waiting: [wish],
  });
  expect(result.reservations).toMatchObject([{ knownMs: 5 * MINUTE }]);
});

test("an estimate comes from known ends, and from how long sessions took before", () => {
  const servers = [server(1, [[null]])];
  const two = [waiting("one"), waiting("two", { user: "ben" })];
  const known = pass({ servers, running: [running("held", [1, 0], 10 * MINUTE)], waiting: two });
  // Nobody knows how long the first will have it.
  expect(known.told.map(({ estimateMs }) => estimateMs)).toEqual([10 * MINUTE, null]);
  const past = pass({
    servers,
    running: [running("held", [1, 0])],
    waiting: two,
    nowMs: 15 * MINUTE,
    lengths: new PastLengths([10, 20, 30].map((minutes) => minutes * MINUTE)),
  });
  // It is older than the shortest: the median of the others is 30 minutes. The first will take 20.
  expect(past.told.map(({ estimateMs }) => estimateMs)).toEqual([30 * MINUTE, 50 * MINUTE]);
});

test("the reason says what is missing: another server, an answer, GPUs on one server, one's turn", () => {
  const reason = (servers: readonly ServerCapacity[], ...sessions: WaitingSession[]): string[] =>
    pass({ servers, waiting: sessions }).told.map(({ waitsFor }) => waitsFor);
  expect(reason([server(1, [[]])], waiting("big", { count: 2 }))).toEqual([
    "2 GPUs: no server of the pool has that now",
  ]);
  expect(reason([server(1, [[]], { accepts: false })], waiting("one"))).toEqual([
    "1 GPU: the server gpu-01 does not answer",
  ]);
  expect(reason([server(1, [[], [null]]), server(2, [[], [null]])], waiting("two", { count: 2 }))).toEqual([
    "2 GPUs on one server: most are free on gpu-01, 1",
  ]);
  expect(reason([server(1, [[null]])], waiting("aaa"), waiting("bbb"))).toEqual([
    "1 GPU to become free",
    "1 GPU, after 1 before it",
  ]);
});

test("who waits for a server that is closed is told why", () => {
  const closed = "the server gpu-01 is drained: new disks";
  const servers = [server(1, [[]], { accepts: false, closedBecause: closed }), server(2, [[null]])];
  const { told } = pass({ servers, waiting: [waiting("one", { only: new Set([serverId(1)]) })] });
  expect(told).toMatchObject([{ waitsFor: `1 GPU: ${closed}`, estimateMs: null }]);
});

test("whose budget is spent comes last, whatever priority it has and however long it has waited", () => {
  const spent = { isLast: true, priority: 100, user: "ann" };
  const { result } = pass({
    servers: [server(1, [[], []])],
    waiting: [
      waiting("aaa", spent),
      waiting("bbb", { ...spent, reservedOn: serverId(1) }),
      waiting("ccc", { requestedAtMs: 60 * MINUTE, priority: 0 }),
    ],
    nowMs: 60 * MINUTE,
  });
  expect(granted(result)).toEqual(["s-ccc", "s-aaa"]);
  expect(queue(result)).toEqual(["s-bbb"]);
});

test("one that may not be where there is room keeps nobody else from it", () => {
  const only = new Set([serverId(2)]);
  const { result, told } = pass({
    servers: [server(1, [[]]), server(2, [[null]])],
    waiting: [waiting("aaa", { only }), waiting("bbb")],
  });
  expect(granted(result)).toEqual(["s-bbb"]);
  expect(told).toMatchObject([{ id: "s-aaa", waitsFor: "1 GPU to become free" }]);
});

test("a thousand wishes that find no room are looked for once", () => {
  const sessions = Array.from({ length: 1_000 }, (_, index) =>
    waiting(`w${index}w`, { user: `u${index % 7}` }),
  );
  const { result } = pass({ servers: [server(1, [[null]])], waiting: sessions });
  expect(result.queue.map(({ position }) => position)).toEqual(sessions.map((_, index) => index + 1));
  expect(result.queue.at(-1)?.session.id).toBe(sessionId("w999w"));
});

import { FarpoolError, type EndReason, type SessionNotice } from "@farpool/contract";
import { waitFor } from "@farpool/testkit";
import { expect, onTestFinished, test, vi, type Mock } from "vitest";
import type { HeldSession } from "./held-session.ts";
import { createHolding, type HoldingOptions } from "./holding.ts";
import { NotHeld } from "./not-held.ts";

interface Session {
  readonly held: HeldSession;
  readonly processes: unknown[];
  readonly end: Mock<() => Promise<void>>;
  lose(reason: EndReason): void;
  notify(notice: SessionNotice): void;
}

/** A session without a pool: what holding does with it is what these tests are about. */
function session(id = "s-1", changes: { isOutdated?: boolean; hasEnded?: boolean } = {}): Session {
  const processes: unknown[] = [];
  const end = vi.fn<() => Promise<void>>(() => Promise.resolve());
  let ended: (reason: EndReason, message: null) => void = () => undefined;
  let noticed: (notice: SessionNotice) => void = () => undefined;
  const held = {
    handle: {
      session: { id, idleTimeoutMs: 200 },
      end,
      onEnded(next: typeof ended) {
        ended = next;
        if (changes.hasEnded === true) next("server-lost", null);
      },
      onNotice: (next: typeof noticed) => (noticed = next),
    },
    isOutdated: changes.isOutdated ?? false,
    processes: () => processes,
    close: () => undefined,
  } as unknown as HeldSession;
  return {
    ...{ held, processes, end },
    lose: (reason) => ended(reason, null),
    notify: (notice) => noticed(notice),
  };
}

function start(take: HoldingOptions["take"], changes: Partial<HoldingOptions> = {}) {
  const holding = createHolding({
    isAlways: () => false,
    idleTimeoutMs: () => 50,
    take,
    giveUp: () => Promise.resolve(),
    describe: ({ handle }) => `session ${handle.session.id}`,
    onChange: () => undefined,
    log: () => undefined,
    ...changes,
  });
  onTestFinished(() => holding.stop("leave"));
  return holding;
}

const nobody = new AbortController().signal;
const quiet = (): void => undefined;

test("two programs that need a GPU at once get the same session, and it goes back when both are gone", async () => {
  const one = session();
  const take = vi.fn<HoldingOptions["take"]>(() => Promise.resolve(one.held));
  const holding = start(take);

  const got = await Promise.all([holding.need(nobody, quiet), holding.need(nobody, quiet)]);
  one.processes.push(1, 2);
  holding.changed();

  expect(got).toEqual([one.held, one.held]);
  expect(take).toHaveBeenCalledOnce();
  expect(holding.state).toBe("held");
  one.processes.length = 0;
  holding.changed();
  await waitFor("given back", () => (one.end.mock.calls.length === 1 ? true : undefined));
  expect(holding.state).toBe("idle");
});

test("who hangs up leaves the queue, unless others wait", async () => {
  let aborted = false;
  const holding = start(
    (signal) =>
      new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          aborted = true;
          reject(new Error("aborted"));
        });
      }),
  );
  const [first, second] = [new AbortController(), new AbortController()];
  const needs = [holding.need(first.signal, quiet), holding.need(second.signal, quiet)];

  first.abort();
  await expect(needs[0]).rejects.toThrow(NotHeld);
  expect([holding.state, aborted]).toEqual(["waiting", false]);
  second.abort();
  await expect(needs[1]).rejects.toThrow(NotHeld);

  await waitFor("idle", () => (holding.state === "idle" ? true : undefined));
  expect(aborted).toBe(true);
});

test("a refusal is told with its code, and the next program asks again", async () => {
  const one = session();
  const take = vi
    .fn<HoldingOptions["take"]>()
    .mockRejectedValueOnce(new FarpoolError("FARPOOL_POLICY", "too many", { hint: "ask" }))
    .mockResolvedValueOnce(one.held);
  const holding = start(take);

  await expect(holding.need(nobody, quiet)).rejects.toMatchObject({
    refusal: { exitCode: 77, cudaError: "CUDA_ERROR_NO_DEVICE", sentence: "too many; hint: ask" },
  });
  expect(holding.state).toBe("refused");

  expect(await holding.need(nobody, quiet)).toBe(one.held);
});

test("at a restart who waits is told nothing, and the session that comes meanwhile stays", async () => {
  const one = session();
  let give: ((held: HeldSession) => void) | undefined;
  const holding = start(() => new Promise((resolve) => (give = resolve)));
  const told = vi.fn<() => void>();
  void holding.need(nobody, quiet).then(told, told);
  await waitFor("asked for", () => (give === undefined ? undefined : true));

  const stopped = holding.stop("leave");
  give?.(one.held);
  await stopped;
  void holding.need(nobody, quiet).then(told, told);
  await new Promise((resolve) => setTimeout(resolve, 10));

  expect(told).not.toHaveBeenCalled();
  expect(one.end).not.toHaveBeenCalled();
});

test("a pool that is away is tried again, and who waits is told", async () => {
  const one = session();
  const take = vi
    .fn<HoldingOptions["take"]>()
    .mockRejectedValueOnce(new FarpoolError("FARPOOL_POOL_UNREACHABLE", "no answer"))
    .mockResolvedValueOnce(one.held);
  const holding = start(take);
  const told: string[] = [];

  expect(await holding.need(nobody, (sentence) => told.push(sentence))).toBe(one.held);
  expect(told).toContain("no answer; it is tried again");
});

test("always: it is there unasked, taken again when it was lost, and not before it is needed when it was idle", async () => {
  const [one, two, three] = [session("s-1"), session("s-2"), session("s-3")];
  const take = vi
    .fn<HoldingOptions["take"]>()
    .mockResolvedValueOnce(one.held)
    .mockResolvedValueOnce(two.held)
    .mockResolvedValueOnce(three.held);
  const holding = start(take, { isAlways: () => true });
  const until = (held: HeldSession): Promise<true> =>
    waitFor("the session", () => (holding.held === held ? true : undefined));

  holding.changed();
  await until(one.held);
  one.lose("server-lost");
  await until(two.held);
  two.lose("idle");
  expect(holding.state).toBe("idle");
  holding.changed();
  expect(take).toHaveBeenCalledTimes(2);

  expect(await holding.need(nobody, quiet)).toBe(three.held);
});

test("what is not waited for any more is given up, but at a restart it is the next service's", async () => {
  const giveUp = vi.fn<HoldingOptions["giveUp"]>(() => Promise.resolve());
  const never: HoldingOptions["take"] = (signal) =>
    new Promise((_, reject) => {
      signal.addEventListener("abort", () => reject(new Error("aborted")));
    });
  const [left, restarted] = [start(never, { giveUp }), start(never, { giveUp })];
  const gone = new AbortController();
  const need = left.need(gone.signal, quiet);
  void restarted.need(nobody, quiet);

  await restarted.stop("leave");
  expect(giveUp).not.toHaveBeenCalled();
  gone.abort();
  await expect(need).rejects.toThrow(NotHeld);
  await waitFor("idle", () => (left.state === "idle" ? true : undefined));
  expect(giveUp).toHaveBeenCalledOnce();
});

test("a refusal gives up what was asked for", async () => {
  const giveUp = vi.fn<HoldingOptions["giveUp"]>(() => Promise.resolve());
  const holding = start(() => Promise.reject(new FarpoolError("FARPOOL_POLICY", "too many")), { giveUp });

  await expect(holding.need(nobody, quiet)).rejects.toThrow("too many");

  await waitFor("given up", () => (giveUp.mock.calls.length === 1 ? true : undefined));
});

test("while programs wait a pool that is away is asked every 5 s, and at once when the first one comes", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const take = vi.fn<HoldingOptions["take"]>(() =>
    Promise.reject(new FarpoolError("FARPOOL_POOL_UNREACHABLE", "no answer")),
  );
  const holding = start(take, { isAlways: () => true });
  holding.changed();
  await vi.advanceTimersByTimeAsync(60_000);

  let attempts = take.mock.calls.length;
  holding.need(nobody, quiet).catch(quiet);
  await vi.advanceTimersByTimeAsync(10);
  expect(take).toHaveBeenCalledTimes(attempts + 1);

  attempts = take.mock.calls.length;
  await vi.advanceTimersByTimeAsync(20_000);
  expect(take.mock.calls.length - attempts).toBeGreaterThanOrEqual(4);
});

test("a pool that lets attempts time out is asked again soon after each", async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const take = vi.fn<HoldingOptions["take"]>(
    (signal) =>
      new Promise((_, reject) => {
        const fail = (): void => reject(new FarpoolError("FARPOOL_POOL_UNREACHABLE", "no answer"));
        setTimeout(fail, 10_000);
        signal.addEventListener("abort", fail);
      }),
  );
  const holding = start(take, { isAlways: () => true });
  holding.changed();
  await vi.advanceTimersByTimeAsync(60_000);

  const attempts = take.mock.calls.length;
  await vi.advanceTimersByTimeAsync(105_000);
  expect(take.mock.calls.length - attempts).toBe(10);
});

test("an outdated session goes back as soon as nobody is in it, and what is asked for now is taken", async () => {
  const [old, fresh] = [session("s-1", { isOutdated: true }), session("s-2")];
  old.processes.push(1);
  const take = vi
    .fn<HoldingOptions["take"]>()
    .mockResolvedValueOnce(old.held)
    .mockResolvedValueOnce(fresh.held);
  const holding = start(take, { isAlways: () => true });
  holding.changed();
  await waitFor("the old one", () => (holding.held === old.held ? true : undefined));

  expect(await holding.need(nobody, quiet)).toBe(old.held);
  expect(old.end).not.toHaveBeenCalled();
  old.processes.length = 0;
  holding.changed();

  await waitFor("the new one", () => (holding.held === fresh.held ? true : undefined));
  expect(old.end).toHaveBeenCalledOnce();
});

test("a notice is logged and part of the sentence until what it announces has come or not", async () => {
  const one = session();
  const log = vi.fn<HoldingOptions["log"]>();
  const holding = start(() => Promise.resolve(one.held), { log, isAlways: () => true });
  await holding.need(nobody, quiet);
  const at = new Date(2026, 10, 30, 14, 5).toISOString();

  one.notify({ number: 1, at, kind: "idle", text: "idle for 24 min: it ends in 6 min" });

  expect(log).toHaveBeenLastCalledWith("session s-1: idle for 24 min: it ends in 6 min");
  expect(holding.sentence).toBe("session s-1; at 14:05: idle for 24 min: it ends in 6 min");
  await waitFor("over", () => (holding.sentence === "session s-1" ? true : undefined));
});

test("a session that has ended before it is held is given to nobody", async () => {
  const [dead, living] = [session("s-1", { hasEnded: true }), session("s-2")];
  const take = vi
    .fn<HoldingOptions["take"]>()
    .mockResolvedValueOnce(dead.held)
    .mockResolvedValueOnce(living.held);
  const holding = start(take);

  expect(await holding.need(nobody, quiet)).toBe(living.held);
});

test("an idle timeout of months does not end at once", async () => {
  const one = session();
  const holding = start(() => Promise.resolve(one.held), { idleTimeoutMs: () => 90 * 86_400_000 });
  await holding.need(nobody, quiet);
  holding.changed();

  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(one.end).not.toHaveBeenCalled();
});

import { refusalSchema } from "@farpool/contract";
import { expect, test } from "vitest";
import type { RefusedEvent } from "./acceptor-protocol.ts";
import { createRefusals } from "./refusals.ts";
import { testClock } from "./testing/clock.ts";

const event = (changes: Partial<RefusedEvent> = {}): RefusedEvent => ({
  event: "refused",
  sessionId: "s-7f3k2m9q",
  connectionId: "0".repeat(32),
  peer: "192.0.2.7:40000",
  reason: "the session grant expired 12 s ago",
  at: "2026-11-30T12:00:00.000Z",
  ...changes,
});

test("a refusal is told until it has been told, with what it named cut to what is stored", () => {
  const refusals = createRefusals(testClock());
  refusals.add(event());
  refusals.add(event({ sessionId: "x".repeat(10_000), peer: undefined, reason: "y".repeat(10_000) }));
  const told = refusals.pending();
  expect(refusals.pending()).toEqual(told);
  expect(told).toMatchObject([{ reason: "the session grant expired 12 s ago" }, { peer: null }]);
  for (const refusal of told) expect(refusalSchema.safeParse(refusal).success).toBe(true);
  refusals.add(event({ reason: "later" }));
  refusals.told(told);
  expect(refusals.pending()).toMatchObject([{ reason: "later" }]);
});

test("who knocks without end is told of a hundred times, then once a second, and the rest is counted", () => {
  const clock = testClock();
  const refusals = createRefusals(clock);
  const knock = (times: number): void => {
    for (let time = 0; time < times; time += 1) refusals.add(event());
  };
  const tell = (): number => {
    const told = refusals.pending();
    refusals.told(told);
    return told.length;
  };
  knock(5_000);
  expect(tell()).toBe(100);
  clock.pass(10_000);
  knock(5_000);
  expect(tell()).toBe(10);
  clock.pass(60_000);
  expect(refusals.pending().map(({ reason }) => reason)).toEqual([
    "9890 more connections were refused, too many to tell of each",
  ]);
});

test("while the manager is away no more are kept than a report holds", () => {
  const clock = testClock();
  const refusals = createRefusals(clock);
  for (let second = 0; second < 10_000; second += 1) {
    refusals.add(event());
    clock.pass(1_000);
  }
  expect(refusals.pending().length).toBeLessThanOrEqual(1_000);
});

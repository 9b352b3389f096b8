import type { SessionGrant } from "@farpool/contract";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { keepGrant } from "./session-grant.ts";

const SIGNED_AT = 1_796_040_000;

beforeEach(() => {
  vi.useFakeTimers({ now: 0 });
});
afterEach(() => {
  vi.useRealTimers();
});

/** As a manager whose clock stands at SIGNED_AT when the test's stands at zero. */
function grant(number: number): SessionGrant {
  const claims = Buffer.from(JSON.stringify({ iat: SIGNED_AT + Date.now() / 1_000, number }));
  return { grant: `e30.${claims.toString("base64url")}.sig`, validSeconds: 900 };
}

/** Counts renewals; fails while `isAway`. */
function manager() {
  const self = {
    renewals: 0,
    isAway: false,
    renew: (): Promise<SessionGrant> => {
      self.renewals += 1;
      return self.isAway ? Promise.reject(new Error("it is away")) : Promise.resolve(grant(self.renewals));
    },
  };
  return self;
}

test("a grant is renewed at its half-life, again and again, and not before", async () => {
  const pool = manager();
  const first = grant(0);
  const keeper = keepGrant(first, pool.renew);
  await vi.advanceTimersByTimeAsync(449_000);
  expect(await keeper.current()).toEqual({ text: first.grant, managerTime: SIGNED_AT + 449 });
  expect(pool.renewals).toBe(0);
  await vi.advanceTimersByTimeAsync(2_000);
  expect(pool.renewals).toBe(1);
  expect(await keeper.current()).toMatchObject({ managerTime: SIGNED_AT + 451 });
  await vi.advanceTimersByTimeAsync(8 * 450_000);
  expect(pool.renewals).toBe(9);
  keeper.stop();
  await vi.advanceTimersByTimeAsync(3_600_000);
  expect(pool.renewals).toBe(9);
});

test("while the manager is away the grant that is there goes on, until it ends; then the reason is told", async () => {
  const pool = manager();
  const first = grant(0);
  const keeper = keepGrant(first, pool.renew);
  pool.isAway = true;
  await vi.advanceTimersByTimeAsync(899_000);
  expect(await keeper.current()).toMatchObject({ text: first.grant });
  await vi.advanceTimersByTimeAsync(1_000);
  await expect(keeper.current()).rejects.toThrow(
    "the session's grant ended and could not be renewed: it is away",
  );
  pool.isAway = false;
  await vi.advanceTimersByTimeAsync(5_000);
  expect((await keeper.current()).text).not.toBe(first.grant);
});

test("a machine that slept past the end asks for a fresh grant before it hands one out", async () => {
  const pool = manager();
  const first = grant(0);
  const keeper = keepGrant(first, pool.renew);
  // Timers stand still meanwhile, and so does the monotonic clock.
  vi.setSystemTime(3_600_000);
  expect(await keeper.current()).toMatchObject({ managerTime: SIGNED_AT + 3_600 });
  expect(pool.renewals).toBe(1);
});

test("a clock that is set back changes nothing", async () => {
  const pool = manager();
  const keeper = keepGrant(grant(0), pool.renew);
  await vi.advanceTimersByTimeAsync(100_000);
  vi.setSystemTime(-1_000_000);
  expect(await keeper.current()).toMatchObject({ managerTime: SIGNED_AT + 100 });
});

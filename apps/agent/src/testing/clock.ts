import type { Clock } from "../clock.ts";

/** Time that passes only when somebody waits for it, or when a test says so. */
export interface TestClock extends Clock {
  pass(ms: number): void;
  /** The wall clock is set, forward or back. */
  set(ms: number): void;
}

export function testClock(): TestClock {
  let [wallMs, monotonicMs] = [Date.parse("2026-11-30T12:00:00Z"), 0];
  const pass = (ms: number): void => {
    wallMs += ms;
    monotonicMs += ms;
  };
  return {
    now: () => ({ wallMs, monotonicMs }),
    async pause(ms) {
      // Lets others go on, as a real pause would.
      await new Promise((resolve) => setImmediate(resolve));
      pass(ms);
    },
    pass,
    set(ms) {
      wallMs += ms;
    },
  };
}

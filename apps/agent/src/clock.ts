import { setTimeout as sleep } from "node:timers/promises";

/** One clock stands still while the machine sleeps, the other may be set back: what has passed is the larger. */
export interface Moment {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

/** Time, so that tests can let days pass. */
export interface Clock {
  now(): Moment;
  /** Returns early, and does not throw, when the signal aborts. */
  pause(ms: number, signal: AbortSignal): Promise<void>;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => ({ wallMs: Date.now(), monotonicMs: performance.now() }),
  pause: async (ms, signal) => {
    await sleep(ms, undefined, { signal }).catch(() => undefined);
  },
};

export function elapsedMs(since: Moment, now: Moment): number {
  return Math.max(0, now.wallMs - since.wallMs, now.monotonicMs - since.monotonicMs);
}

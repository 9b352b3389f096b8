import { setTimeout as sleep } from "node:timers/promises";

/** What `work` answers, or an error that names what did not come in time: nothing waits for ever. */
export async function within<T>(what: string, work: Promise<T>, ms = 60_000): Promise<T> {
  const timer = new AbortController();
  const late = sleep(ms, undefined, { signal: timer.signal }).then(
    () => {
      throw new Error(`after ${ms / 1000} s there was still not: ${what}`);
    },
    () => new Promise<never>(() => undefined),
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
  }
}

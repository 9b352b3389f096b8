/** How long the database took, for whoever measures it: the metrics, if they are on. */
export interface Timings {
  statement(seconds: number, hasFailed: boolean): void;
  /** A transaction in which sessions are granted and ended: how long it waited for its turn, and how long it took then. */
  placement(waitedSeconds: number, workedSeconds: number): void;
}

const observers = new Set<Timings>();

/** Tells all that observe. */
export const timings: Timings = {
  statement(seconds, hasFailed) {
    for (const each of observers) each.statement(seconds, hasFailed);
  },
  placement(waitedSeconds, workedSeconds) {
    for (const each of observers) each.placement(waitedSeconds, workedSeconds);
  },
};

/** Returns what ends it. */
export function observeTimings(observer: Timings): () => void {
  observers.add(observer);
  return () => observers.delete(observer);
}

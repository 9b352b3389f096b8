import { apportion } from "./amounts.ts";
import type { Interval } from "./intervals.ts";

/** A process was busy for so long in the time that began then. */
export interface BusySample {
  readonly atMs: number;
  readonly busyMs: number;
}

export interface ProcessCounter extends Interval {
  /** What its worker has counted, less what records tell already. */
  readonly busyMs: number;
  readonly samples: readonly BusySample[];
}

/**
 * How long a process was busy in each of the segments. Of a session that goes on it is what the samples say, and never
 * more than was counted. Of one that is over all that was counted is told, spread as the samples are; without samples,
 * as the process lived.
 */
export function busyPerSegment(
  segments: readonly Interval[],
  process: ProcessCounter,
  isOver: boolean,
): readonly number[] {
  const sampled = segments.map(({ fromMs, toMs }) =>
    process.samples
      .filter(({ atMs }) => atMs >= fromMs && atMs < toMs)
      .reduce((sum, { busyMs }) => sum + busyMs, 0),
  );
  if (!isOver) {
    let left = Math.max(0, process.busyMs);
    return sampled.map((busyMs) => {
      const told = Math.min(left, busyMs);
      left -= told;
      return told;
    });
  }
  if (sampled.some((busyMs) => busyMs > 0)) return apportion(process.busyMs, sampled);
  const lived = segments.map(({ fromMs, toMs }) =>
    Math.max(0, Math.min(toMs, process.toMs) - Math.max(fromMs, process.fromMs)),
  );
  return apportion(process.busyMs, lived);
}

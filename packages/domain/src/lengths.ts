import type { RunningSession } from "./wish.ts";

/** Fewer tell nothing: the first ones are often tries of a few seconds. */
const FEWEST = 3;

/** How long sessions took that are over: what is expected of those that do not say how long they will take. */
export class PastLengths {
  private readonly sortedMs: readonly number[];

  constructor(lengthsMs: readonly number[] = []) {
    this.sortedMs = lengthsMs.length < FEWEST ? [] : [...lengthsMs].sort((a, b) => a - b);
  }

  get medianMs(): number | null {
    return this.sortedMs[Math.floor(this.sortedMs.length / 2)] ?? null;
  }

  /**
   * When a session will be over: at the end that it has named, else at the median of those that were at least as
   * old; null: nobody knows.
   */
  expectedEndMs(
    session: Pick<RunningSession, "grantedAtMs" | "maxDurationMs">,
    nowMs: number,
  ): number | null {
    const known = knownEndMs(session);
    return known === null ? this.likelyEndMs(session.grantedAtMs, nowMs) : Math.max(nowMs, known);
  }

  /** How long one will take that has not begun. */
  expectedMs(maxDurationMs: number | null): number | null {
    return maxDurationMs ?? this.medianMs;
  }

  private likelyEndMs(grantedAtMs: number, nowMs: number): number | null {
    if (this.sortedMs.length === 0) return null;
    const elapsedMs = nowMs - grantedAtMs;
    const first = firstAbove(this.sortedMs, elapsedMs);
    const older = this.sortedMs.length - first;
    // Older than all before it: as long again as it has taken.
    if (older === 0) return nowMs + elapsedMs;
    return grantedAtMs + (this.sortedMs[first + Math.floor(older / 2)] ?? elapsedMs);
  }
}

export function knownEndMs({
  grantedAtMs,
  maxDurationMs,
}: Pick<RunningSession, "grantedAtMs" | "maxDurationMs">): number | null {
  return maxDurationMs === null ? null : grantedAtMs + maxDurationMs;
}

function firstAbove(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

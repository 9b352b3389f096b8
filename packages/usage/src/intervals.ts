/** A time from `fromMs` up to, and without, `toMs`. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

/** A time in which the pool could not serve: it is marked and not charged. */
export interface Outage extends Interval {
  readonly reason: string;
}

export interface MarkedInterval extends Interval {
  /** Why the pool could not serve, or null: it did. */
  readonly outage: string | null;
}

/** Cuts an interval at moments; those outside it, and those that come twice, change nothing. */
export function cutAt({ fromMs, toMs }: Interval, moments: readonly number[]): readonly Interval[] {
  if (toMs <= fromMs) return [];
  const inside = [...new Set(moments)].filter((at) => at > fromMs && at < toMs).toSorted((a, b) => a - b);
  const bounds = [fromMs, ...inside, toMs];
  return bounds.slice(1).map((end, index) => ({ fromMs: bounds[index] ?? fromMs, toMs: end }));
}

/** Cuts an interval where outages begin and end, and marks what lies inside one: of several, the first that began. */
export function mark(interval: Interval, outages: readonly Outage[]): readonly MarkedInterval[] {
  const touching = outages.filter(({ fromMs, toMs }) => fromMs < interval.toMs && toMs > interval.fromMs);
  const ordered = touching.toSorted((a, b) => a.fromMs - b.fromMs);
  const pieces = cutAt(
    interval,
    ordered.flatMap(({ fromMs, toMs }) => [fromMs, toMs]),
  );
  const marked: MarkedInterval[] = [];
  for (const piece of pieces) {
    const within = ordered.find(({ fromMs, toMs }) => fromMs <= piece.fromMs && toMs >= piece.toMs);
    const outage = within?.reason ?? null;
    const last = marked.at(-1);
    if (last !== undefined && last.outage === outage)
      marked[marked.length - 1] = { ...last, toMs: piece.toMs };
    else marked.push({ ...piece, outage });
  }
  return marked;
}

/** The same numbers for the same seed, on every machine: 0 ≤ n < 1 (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface PlannedCut<Kind extends string> {
  readonly kind: Kind;
  /** After so many more bytes, in both directions of all connections together. */
  readonly afterBytes: number;
  /** Of a black hole. */
  readonly durationMs: number;
}

export interface PlanOptions<Kind extends string> {
  readonly seed: number;
  readonly count: number;
  readonly kinds: readonly [Kind, ...Kind[]];
  /** On average; each time between nothing and twice as many. */
  readonly everyBytes: number;
  /** How long a black hole lasts: at least and at most. */
  readonly blackholeMs: readonly [number, number];
}

export function planCuts<Kind extends string>(options: PlanOptions<Kind>): readonly PlannedCut<Kind>[] {
  const random = seededRandom(options.seed);
  const [shortest, longest] = options.blackholeMs;
  return Array.from({ length: options.count }, () => ({
    kind: options.kinds[Math.floor(random() * options.kinds.length)] ?? options.kinds[0],
    afterBytes: 1 + Math.floor(random() * 2 * options.everyBytes),
    durationMs: shortest + Math.floor(random() * (longest - shortest + 1)),
  }));
}

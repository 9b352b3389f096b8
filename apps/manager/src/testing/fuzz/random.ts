/** Numbers that a seed repeats. */
export interface Random {
  /** From 0 up to, but not, 1. */
  next(): number;
  /** A whole number from 0 up to, but not, `end`. */
  below(end: number): number;
  /** True in one of `n` cases. */
  oneIn(n: number): boolean;
  pick<T>(from: readonly [T, ...T[]]): T;
}

/** mulberry32: small, and good enough to choose with. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d_2b_79_f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
  const below = (end: number): number => Math.floor(next() * end);
  return {
    next,
    below,
    oneIn: (n) => below(n) === 0,
    pick: (from) => from[below(from.length)] ?? from[0],
  };
}

/** Choices that a seed repeats; what processes make of them is theirs. */
export interface Random {
  /** From 0 up to 1. */
  next(): number;
  pick<T>(from: readonly T[]): T;
  chance(probability: number): boolean;
}

export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    pick(from) {
      const found = from[Math.floor(next() * from.length)];
      if (found === undefined) throw new Error("there is nothing to choose from");
      return found;
    },
    chance: (probability) => next() < probability,
  };
}

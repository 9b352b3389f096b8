/**
 * Money is an integer of 1/10,000 of the pool's currency. Sums of products pass 2^53, so they are made of `bigint`;
 * a price or the cost of one record stays far below it.
 */

export const UNITS_PER_CURRENCY = 10_000;
export const HOUR_MS = 3_600_000;

/** How much of a GPU: `part` of `whole` bytes. A whole GPU has both equal. */
export interface Share {
  readonly part: number;
  readonly whole: number;
}

/** A time on a share of a GPU, half a millisecond up: the only place where charged time is rounded. */
export function shareOf(ms: number, { part, whole }: Share): number {
  if (whole <= 0 || part >= whole) return ms;
  return divide(BigInt(ms) * BigInt(part), BigInt(whole));
}

/** What a time on a share of a GPU costs, half a unit up. `price` is per GPU and hour. */
export function costOf(ms: number, share: Share, price: number): number {
  const [part, whole] = share.whole <= 0 || share.part >= share.whole ? [1, 1] : [share.part, share.whole];
  return divide(BigInt(ms) * BigInt(part) * BigInt(price), BigInt(HOUR_MS) * BigInt(whole));
}

function divide(value: bigint, by: bigint): number {
  return Number((2n * value + by) / (2n * by));
}

/**
 * Whole parts that add up to `total` and are as near to the weights as whole numbers can be (largest remainder; of
 * equal ones the first). Without any weight everything is the first's.
 */
export function apportion(total: number, weights: readonly number[]): readonly number[] {
  if (weights.length === 0) return [];
  const all = weights.reduce((sum, weight) => sum + weight, 0);
  if (all <= 0) return weights.map((_, index) => (index === 0 ? total : 0));
  const sign = total < 0 ? -1 : 1;
  const amount = BigInt(Math.abs(total));
  const parts = weights.map((weight, index) => {
    const exact = amount * BigInt(weight);
    return { index, whole: Number(exact / BigInt(all)), rest: exact % BigInt(all) };
  });
  let left = Math.abs(total) - parts.reduce((sum, { whole }) => sum + whole, 0);
  const result = parts.map(({ whole }) => whole);
  for (const { index } of parts.toSorted((a, b) => (b.rest > a.rest ? 1 : b.rest < a.rest ? -1 : 0))) {
    if (left === 0) break;
    result[index] = (result[index] ?? 0) + 1;
    left -= 1;
  }
  return result.map((value) => (value === 0 ? 0 : sign * value));
}

/** `12.5` → 125000; undefined for what is no amount, or has more than four decimals. */
export function parseAmount(text: string): number | undefined {
  const match = /^(-?)(\d{1,11})(?:\.(\d{1,4}))?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = "0", decimals = ""] = match;
  const units = Number(whole) * UNITS_PER_CURRENCY + Number(decimals.padEnd(4, "0"));
  return sign === "-" ? -units : units;
}

/** 125000 → `12.50`; with all four decimals where two would not tell everything. */
export function formatAmount(units: number): string {
  const absolute = Math.abs(units);
  const whole = Math.floor(absolute / UNITS_PER_CURRENCY);
  const decimals = String(absolute % UNITS_PER_CURRENCY).padStart(4, "0");
  const shown = decimals.endsWith("00") ? decimals.slice(0, 2) : decimals;
  return `${units < 0 ? "-" : ""}${whole}.${shown}`;
}

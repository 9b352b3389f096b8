/** What a GPU of a model costs per hour, from a moment on: until the next price of the model begins. */
export interface Price {
  /** The GPU's name as its driver tells it; null: of models that have no price of their own. */
  readonly model: string | null;
  /** In 1/10,000 of the pool's currency; null: no price any more. */
  readonly perHour: number | null;
  readonly fromMs: number;
  /** Null: until further notice. */
  readonly toMs: number | null;
}

function isValid({ fromMs, toMs }: Price, atMs: number): boolean {
  return fromMs <= atMs && (toMs === null || atMs < toMs);
}

/**
 * The price of a model at a moment: its own, else the one of all models, else none. Of several that are valid the one
 * that began last counts.
 */
export function priceAt(prices: readonly Price[], model: string, atMs: number): number | null {
  const latest = (wanted: string | null): Price | undefined =>
    prices
      .filter((price) => price.model === wanted && isValid(price, atMs))
      .toSorted((a, b) => b.fromMs - a.fromMs)[0];
  const own = latest(model);
  return own === undefined ? (latest(null)?.perHour ?? null) : own.perHour;
}

/** Moments at which the price of one of these models may change. */
export function priceChanges(prices: readonly Price[], models: readonly string[]): readonly number[] {
  return prices
    .filter(({ model }) => model === null || models.includes(model))
    .flatMap(({ fromMs, toMs }) => (toMs === null ? [fromMs] : [fromMs, toMs]));
}

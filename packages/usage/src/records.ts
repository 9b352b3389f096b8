import { costOf, shareOf, type Share } from "./amounts.ts";
import { cutAt, mark, type Outage } from "./intervals.ts";
import { priceAt, priceChanges, type Price } from "./prices.ts";
import { nextDay } from "./zones.ts";

/** A GPU that a session holds, or held. */
export interface HeldGpu {
  readonly model: string;
  readonly share: Share;
}

export interface Holding {
  /** Of all GPUs of the session: its records are cut at the same moments for each of them. */
  readonly models: readonly string[];
  /** When the GPUs were granted. */
  readonly grantedMs: number;
  /** When the server first took connections; null: not yet, or never. */
  readonly activeMs: number | null;
  /** When the session ended; null: it goes on. */
  readonly endedMs: number | null;
  /** Up to here records exist already; the next one begins there, wherever clocks have gone since. */
  readonly settledMs: number | null;
  readonly outages: readonly Outage[];
}

export interface Tariff {
  readonly zone: string;
  readonly prices: readonly Price[];
}

/** One stretch of one GPU of one session with one price, within one day of the pool's time zone. */
export interface Segment {
  readonly fromMs: number;
  readonly toMs: number;
  /** The GPU's time times the session's share of it. */
  readonly heldMs: number;
  /** What of it is charged: all, or nothing while the pool could not serve. */
  readonly chargedMs: number;
  readonly outage: string | null;
  /** Per GPU and hour; null: there was none, and nothing is charged. */
  readonly pricePerHour: number | null;
  readonly cost: number;
}

/** Why nothing is charged before the server takes connections. */
export const OPENING = "the server was not ready yet";

/**
 * The segments of a GPU of a session up to `untilMs`. They cover the session's time from where records end already,
 * without gap and overlap; a clock that was set back makes none, and none twice.
 */
export function segmentsOf(
  gpu: HeldGpu,
  holding: Holding,
  { zone, prices, untilMs }: Tariff & { readonly untilMs: number },
): readonly Segment[] {
  const fromMs = Math.max(holding.grantedMs, holding.settledMs ?? holding.grantedMs);
  const toMs = Math.min(holding.endedMs ?? untilMs, untilMs);
  if (toMs <= fromMs) return [];
  const bounds = [...dayBounds(fromMs, toMs, zone), ...priceChanges(prices, holding.models)];
  const opening = openingOf(holding, toMs);
  const outages = opening === undefined ? holding.outages : [opening, ...holding.outages];
  return cutAt({ fromMs, toMs }, bounds).flatMap((piece) =>
    mark(piece, outages).map((part): Segment => {
      const pricePerHour = priceAt(prices, gpu.model, part.fromMs);
      const spanMs = part.toMs - part.fromMs;
      const isCharged = part.outage === null;
      return {
        fromMs: part.fromMs,
        toMs: part.toMs,
        heldMs: shareOf(spanMs, gpu.share),
        chargedMs: isCharged ? shareOf(spanMs, gpu.share) : 0,
        outage: part.outage,
        pricePerHour,
        cost: isCharged && pricePerHour !== null ? costOf(spanMs, gpu.share, pricePerHour) : 0,
      };
    }),
  );
}

function openingOf({ grantedMs, activeMs, endedMs }: Holding, toMs: number): Outage | undefined {
  const readyMs = activeMs ?? endedMs ?? toMs;
  return readyMs > grantedMs ? { fromMs: grantedMs, toMs: readyMs, reason: OPENING } : undefined;
}

function dayBounds(fromMs: number, toMs: number, zone: string): readonly number[] {
  const bounds: number[] = [];
  for (let at = nextDay(fromMs, zone); at < toMs; at = nextDay(at, zone)) bounds.push(at);
  return bounds;
}

/** Up to where a session that goes on is settled: the last day end or price change that has passed. */
export function settleableUntil(
  holding: Holding,
  { zone, prices, nowMs }: Tariff & { readonly nowMs: number },
): number {
  if (holding.endedMs !== null) return holding.endedMs;
  const fromMs = Math.max(holding.grantedMs, holding.settledMs ?? holding.grantedMs);
  const changes = priceChanges(prices, holding.models);
  const passed = [...dayBounds(fromMs, nowMs, zone), ...changes].filter((at) => at > fromMs && at <= nowMs);
  return Math.max(fromMs, ...passed);
}

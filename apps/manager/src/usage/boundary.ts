import { dayOf, startOfDay } from "@farpool/usage";
import type { PoolTariff } from "./tariff.ts";

/** The last day end or price change that has passed: sessions that go on are settled up to there. */
export function lastBoundary({ prices, timeZone, nowMs }: PoolTariff): number {
  const changes = prices.flatMap(({ fromMs, toMs }) => (toMs === null ? [fromMs] : [fromMs, toMs]));
  const today = startOfDay(dayOf(nowMs, timeZone), timeZone);
  return Math.max(today, ...changes.filter((at) => at <= nowMs));
}

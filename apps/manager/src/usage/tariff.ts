import { randomUUID } from "node:crypto";
import {
  FarpoolError,
  type billingSettingsChangeSchema,
  type BillingSettings,
  type PriceEntry,
  type priceRequestSchema,
} from "@farpool/contract";
import { isTimeZone, type Price } from "@farpool/usage";
import { sql } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";

export interface PoolTariff extends BillingSettings {
  readonly prices: readonly Price[];
  /** The database's clock. */
  readonly nowMs: number;
}

/** Currency, zone and prices, and the moment at which they were read. */
export async function readTariff(db: Database): Promise<PoolTariff> {
  const { currency, timeZone, now } = await readSettings(db);
  const rows = await db.selectFrom("prices").selectAll().execute();
  const prices = rows.map((row): Price => ({
    model: row.model,
    perHour: row.per_hour,
    fromMs: row.from_at.getTime(),
    toMs: row.to_at?.getTime() ?? null,
  }));
  return { currency, timeZone, prices, nowMs: now.getTime() };
}

export async function readSettings(db: Database): Promise<BillingSettings & { readonly now: Date }> {
  const row = await db
    .selectFrom("billing_settings")
    .select(["currency", "time_zone", sql<Date>`clock_timestamp()`.as("now")])
    .executeTakeFirstOrThrow();
  return { currency: row.currency, timeZone: row.time_zone, now: row.now };
}

/** One currency and zone for all records: both stand as soon as something was charged. */
export async function changeSettings(
  db: Database,
  change: z.output<typeof billingSettingsChangeSchema>,
): Promise<BillingSettings> {
  if (change.timeZone !== undefined && !isTimeZone(change.timeZone)) {
    throw new FarpoolError("FARPOOL_BAD_REQUEST", `there is no time zone '${change.timeZone}'`, {
      hint: "time zones look like Europe/Berlin or UTC",
    });
  }
  return db.transaction().execute(async (tx) => {
    const before = await readSettings(tx);
    const after = {
      currency: change.currency ?? before.currency,
      timeZone: change.timeZone ?? before.timeZone,
    };
    const isSame = after.currency === before.currency && after.timeZone === before.timeZone;
    const charged = isSame
      ? undefined
      : await tx.selectFrom("usage_records").select("from_at").where("cost", "<>", 0).executeTakeFirst();
    if (charged !== undefined) {
      throw new FarpoolError(
        "FARPOOL_CONFLICT",
        `the pool charges in ${before.currency} by the days of ${before.timeZone}, and has done so since ${charged.from_at.toISOString()}: ${after.currency} by ${after.timeZone} would not add up with that`,
        { hint: "currency and time zone are chosen before the first price" },
      );
    }
    await tx
      .updateTable("billing_settings")
      .set({ currency: after.currency, time_zone: after.timeZone })
      .execute();
    return after;
  });
}

export async function listPrices(db: Database): Promise<{ currency: string; prices: PriceEntry[] }> {
  const { currency } = await readSettings(db);
  const rows = await db.selectFrom("prices").selectAll().orderBy("model").orderBy("from_at").execute();
  return {
    currency,
    prices: rows.map((row) => ({
      id: row.id,
      model: row.model,
      perHour: row.per_hour,
      fromAt: row.from_at.toISOString(),
      toAt: row.to_at?.toISOString() ?? null,
    })),
  };
}

/** Prices begin now or later: what was used before has records already, and these are never edited. */
export async function addPrice(
  db: Database,
  request: z.output<typeof priceRequestSchema>,
): Promise<PriceEntry> {
  const { now } = await readSettings(db);
  const from = request.fromAt === null ? now : new Date(request.fromAt);
  const to = request.toAt === null ? null : new Date(request.toAt);
  if (from < now) {
    throw new FarpoolError(
      "FARPOOL_BAD_REQUEST",
      `a price begins now (${now.toISOString()}) or later, not at ${from.toISOString()}`,
      { hint: "what was charged before is corrected with 'farpool admin usage correct'" },
    );
  }
  if (to !== null && to <= from) {
    throw new FarpoolError(
      "FARPOOL_BAD_REQUEST",
      `a price ends after it begins (${from.toISOString()}), not at ${to.toISOString()}`,
      { hint: null },
    );
  }
  const row = await db
    .insertInto("prices")
    .values({ id: randomUUID(), model: request.model, per_hour: request.perHour, from_at: from, to_at: to })
    .returning("id")
    .executeTakeFirstOrThrow();
  return {
    id: row.id,
    model: request.model,
    perHour: request.perHour,
    fromAt: from.toISOString(),
    toAt: to?.toISOString() ?? null,
  };
}

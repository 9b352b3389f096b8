import type { SchedulingSettings } from "@farpool/domain";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import { accruedSince, remaining } from "./read-queue.ts";

/**
 * A part of the statement that ends sessions, which are in the table that is named: each goes to its user's account; one that
 * had no GPUs leaves it as it is.
 */
export function chargeFairShare(ended: RawBuilder<unknown>): RawBuilder<unknown> {
  const halfLifeMs = sql`(select half_life_ms from scheduling)`;
  return sql`
    insert into fair_share as account (share_key, gpu_seconds, as_of)
    select share_key, ${accruedSince(sql`ended_at`, halfLifeMs)}, ended_at
      from ${ended} where granted_at is not null and ended_at is not null
    on conflict (share_key) do update set
      gpu_seconds = account.gpu_seconds * ${remaining(sql`excluded.as_of - account.as_of`, halfLifeMs)}
        + excluded.gpu_seconds,
      as_of = greatest(account.as_of, excluded.as_of)`;
}

export async function readScheduling(db: Database): Promise<SchedulingSettings> {
  const row = await db.selectFrom("scheduling").selectAll().executeTakeFirstOrThrow();
  return {
    halfLifeMs: row.half_life_ms,
    reserveAfterMs: row.reserve_after_ms,
    agingMs: row.aging_ms,
    keptShare: row.kept_share,
  };
}

/** What is not given stays as it is. It holds for all managers of the pool, from the next pass on. */
export async function changeScheduling(db: Database, changes: Partial<SchedulingSettings>): Promise<void> {
  const values = {
    ...(changes.halfLifeMs !== undefined && { half_life_ms: changes.halfLifeMs }),
    ...(changes.reserveAfterMs !== undefined && { reserve_after_ms: changes.reserveAfterMs }),
    ...(changes.agingMs !== undefined && { aging_ms: changes.agingMs }),
    ...(changes.keptShare !== undefined && { kept_share: changes.keptShare }),
  };
  if (Object.keys(values).length > 0) await db.updateTable("scheduling").set(values).execute();
}

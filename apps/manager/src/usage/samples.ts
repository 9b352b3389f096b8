import type { ServerId, SessionId, WorkerSample, samplesSchema } from "@farpool/contract";
import { sql } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";

const DAY_MS = 86_400_000;

/** How long samples are kept as they are; after that, several become one. */
const STAGES = [
  { resolution: 10, keptMs: 7 * DAY_MS, becomes: 300 },
  { resolution: 300, keptMs: 90 * DAY_MS, becomes: 3_600 },
] as const;

/** Stores what the workers of a server did, 10 s each, and nothing of workers of others. A report that comes twice counts once. */
export async function storeSamples(
  db: Database,
  serverId: ServerId,
  samples: readonly WorkerSample[],
): Promise<void> {
  if (samples.length === 0) return;
  await sql`
    insert into usage_samples (resolution_s, session_id, connection_id, at, busy_ms, memory_bytes)
    select 10, "sessionId", "connectionId", date_bin('10 seconds', at, 'epoch'), max("busyMs"), max("memoryUsedBytes")
      from jsonb_to_recordset(${JSON.stringify(samples)}::jsonb) as sample
           ("sessionId" text, "connectionId" text, at timestamptz, "busyMs" bigint, "memoryUsedBytes" bigint)
     where exists (
       select from processes
        where session_id = "sessionId" and connection_id = "connectionId" and server_id = ${serverId})
     group by 2, 3, 4
    on conflict do nothing`.execute(db);
}

/** Makes old samples coarser: 10 s for 7 days, 5 min for 90 days, hourly after. Sums stay the same. */
export async function rollUpSamples(db: Database, nowMs: number): Promise<void> {
  for (const { resolution, keptMs, becomes } of STAGES) {
    const width = becomes * 1_000;
    // Only whole ones of the coarser kind: the rest of one would come later and find its place taken.
    const before = new Date(Math.floor((nowMs - keptMs) / width) * width);
    await sql`
      with old as (
        delete from usage_samples where resolution_s = ${resolution} and at < ${before} returning *)
      insert into usage_samples (resolution_s, session_id, connection_id, at, busy_ms, memory_bytes)
      select ${becomes}::integer, session_id, connection_id, date_bin(${`${becomes} seconds`}::interval, at, 'epoch'),
             sum(busy_ms), max(memory_bytes)
        from old group by 2, 3, 4
      on conflict (session_id, connection_id, at, resolution_s) do update
        set busy_ms = usage_samples.busy_ms + excluded.busy_ms,
            memory_bytes = greatest(usage_samples.memory_bytes, excluded.memory_bytes)`.execute(db);
  }
}

/** The samples of a session's processes, those of this resolution only, oldest first. */
export async function readSamples(
  db: Database,
  sessionId: SessionId,
  resolutionSeconds: number,
): Promise<z.output<typeof samplesSchema>> {
  const rows = await db
    .selectFrom("usage_samples")
    .selectAll()
    .where("session_id", "=", sessionId)
    .where("resolution_s", "=", resolutionSeconds)
    .orderBy("at")
    .orderBy("connection_id")
    .execute();
  return {
    resolutionSeconds,
    samples: rows.map((row) => ({
      connectionId: row.connection_id,
      at: row.at.toISOString(),
      busyMs: row.busy_ms,
      memoryBytes: row.memory_bytes,
    })),
  };
}

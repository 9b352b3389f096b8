import { parseFilter, type GpuUuid, type ServerId, type SessionId } from "@farpool/contract";
import {
  PastLengths,
  type Account,
  type RunningSession,
  type SchedulingSettings,
  type WaitingSession,
} from "@farpool/domain";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import type { PlacementLimits } from "../policies/allowed-servers.ts";

/** So many of the last sessions tell how long sessions take. */
const REMEMBERED_LENGTHS = 1_000;

/** Powers of two beyond it are no numbers for PostgreSQL. */
const MOST_HALF_LIVES = 500;

/** What the last pass has told a session. */
export interface Told {
  readonly isNew: boolean;
  readonly position: number | null;
  readonly waitsFor: string | null;
  readonly estimateMs: number | null;
  readonly reservedOn: ServerId | null;
}

/** A session with what policies leave it of the pool. */
export interface QueuedSession extends WaitingSession {
  readonly limits: PlacementLimits;
}

export interface QueueState {
  readonly nowMs: number;
  readonly settings: SchedulingSettings;
  readonly waiting: readonly QueuedSession[];
  readonly told: ReadonlyMap<SessionId, Told>;
}

/** All that wait, with the settings and the database's time; undefined: nobody does. */
export async function readQueue(db: Database): Promise<QueueState | undefined> {
  const rows = await db
    .selectFrom("sessions")
    .innerJoin("scheduling", (join) => join.onTrue())
    .select([
      ...(["id", "state", "requested_count", "size", "filters", "preferred_gpus", "share_key"] as const),
      ...(["priority", "queue_number", "requested_at", "max_duration_ms", "reserved_server_id"] as const),
      ...(["queue_position", "waits_for", "estimated_at"] as const),
      ...(["servers_allowed", "memory_allowed_bytes", "over_budget"] as const),
      ...(["half_life_ms", "reserve_after_ms", "aging_ms", "kept_share"] as const),
    ])
    .select(sql<Date>`clock_timestamp()`.as("now"))
    .where("state", "in", ["requested", "queued"])
    .orderBy("queue_number")
    .execute();
  const [first] = rows;
  if (first === undefined) return undefined;
  return {
    nowMs: first.now.getTime(),
    settings: {
      halfLifeMs: first.half_life_ms,
      reserveAfterMs: first.reserve_after_ms,
      agingMs: first.aging_ms,
      keptShare: first.kept_share,
    },
    waiting: rows.map((row) => ({
      id: row.id,
      user: row.share_key,
      count: row.requested_count,
      size: row.size,
      filters: row.filters.map(parseFilter),
      preferred: row.preferred_gpus ?? [],
      priority: row.priority,
      queueNumber: row.queue_number,
      requestedAtMs: row.requested_at.getTime(),
      maxDurationMs: row.max_duration_ms,
      reservedOn: row.reserved_server_id,
      isLast: row.over_budget,
      limits: { servers: row.servers_allowed, memoryBytes: row.memory_allowed_bytes },
    })),
    told: new Map(
      rows.map((row) => [
        row.id,
        {
          isNew: row.state === "requested",
          position: row.queue_position,
          waitsFor: row.waits_for,
          estimateMs: row.estimated_at?.getTime() ?? null,
          reservedOn: row.reserved_server_id,
        },
      ]),
    ),
  };
}

/** Who has which GPUs since when: their ends are what others wait for. */
export async function readRunning(db: Database): Promise<readonly RunningSession[]> {
  const rows = await db
    .selectFrom("sessions")
    .innerJoin("session_gpus", "session_gpus.session_id", "sessions.id")
    .select(["sessions.id", "server_id", "granted_at", "max_duration_ms"])
    .select(
      sql<ReadonlyArray<readonly [GpuUuid, number | null]>>`
        json_agg(json_build_array(gpu_uuid, memory_limit_bytes) order by ordinal)`.as("gpus"),
    )
    .where("state", "in", ["granted", "active"])
    .where("session_gpus.released_at", "is", null)
    .groupBy("sessions.id")
    .execute();
  return rows.flatMap((row) => {
    if (row.server_id === null || row.granted_at === null) return [];
    const gpus = row.gpus.map(([uuid, memoryLimitBytes]) => ({ uuid, memoryLimitBytes }));
    return [
      {
        id: row.id,
        grantedAtMs: row.granted_at.getTime(),
        maxDurationMs: row.max_duration_ms,
        placement: { servers: [{ serverId: row.server_id, gpus }] },
      },
    ];
  });
}

/** What users have had, what they have now included, decayed to this moment. */
export async function readAccounts(
  db: Database,
  users: readonly string[],
  halfLifeMs: number,
): Promise<ReadonlyMap<string, Account>> {
  const { rows } = await sql<{ share_key: string; used: number; held: number }>`
    select share_key, sum(used) as used, sum(held) as held from (
      select share_key, gpu_seconds * ${remaining(sql`clock_timestamp() - as_of`, halfLifeMs)} as used, 0 as held
        from fair_share where share_key = any(${users})
      union all
      select share_key, ${accruedSince(sql`clock_timestamp()`, halfLifeMs)}, coalesce(granted_gpus, 0)
        from sessions where state in ('granted', 'active') and share_key = any(${users})
    ) parts group by share_key`.execute(db);
  return new Map(rows.map((row) => [row.share_key, { usedGpuSeconds: row.used, heldGpus: row.held }]));
}

/** As `decayed` of the domain: what is left of 1 after a while. */
export function remaining(elapsed: RawBuilder<unknown>, halfLifeMs: number | RawBuilder<unknown>) {
  return sql<number>`power(0.5::float8, least(${MOST_HALF_LIVES},
    greatest(0, extract(epoch from ${elapsed})::float8 * 1000 / ${halfLifeMs})))`;
}

/** As `accrued` of the domain: what a session's GPUs have come to since its grant. */
export function accruedSince(until: RawBuilder<unknown>, halfLifeMs: number | RawBuilder<unknown>) {
  return sql<number>`coalesce(granted_gpus, 0) * (${halfLifeMs}::float8 / 1000 / ln(2::float8)) * (1 - ${remaining(sql`${until} - granted_at`, halfLifeMs)})`;
}

export async function readPastLengths(db: Database): Promise<PastLengths> {
  const rows = await db
    .selectFrom("sessions")
    .select(sql<number>`extract(epoch from ended_at - granted_at)::float8 * 1000`.as("ms"))
    .where("state", "=", "ended")
    .where("granted_at", "is not", null)
    .orderBy("ended_at", "desc")
    .limit(REMEMBERED_LENGTHS)
    .execute();
  return new PastLengths(rows.map(({ ms }) => ms));
}

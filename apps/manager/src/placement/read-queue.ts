import {
  parseFilter,
  type GpuUuid,
  type ServerId,
  type SessionId,
  type SessionState,
  type Size,
} from "@farpool/contract";
import {
  PastLengths,
  type Account,
  type RunningSession,
  type SchedulingSettings,
  type WaitingSession,
} from "@farpool/domain";
import { sql, type RawBuilder, type Selectable } from "kysely";
import type { Database } from "../database/connect.ts";
import type { SchedulingTable } from "../database/schema.ts";
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
  /** Undefined: they were not read, one session alone may not need them. */
  readonly others: Others | undefined;
}

/** What those who wait are weighed against. */
export interface Others {
  /** Who has which GPUs since when: their ends are what others wait for. */
  readonly running: readonly RunningSession[];
  readonly accounts: ReadonlyMap<string, Account>;
  readonly lengths: PastLengths;
}

interface WaitingRow {
  readonly id: SessionId;
  readonly state: SessionState;
  readonly requested_count: number;
  readonly size: Size;
  readonly filters: readonly string[];
  readonly preferred_gpus: readonly GpuUuid[] | null;
  readonly share_key: string;
  readonly priority: number;
  readonly queue_number: number;
  readonly requested_ms: number;
  readonly max_duration_ms: number | null;
  readonly reserved_server_id: ServerId | null;
  readonly queue_position: number | null;
  readonly waits_for: string | null;
  readonly estimated_ms: number | null;
  readonly servers_allowed: PlacementLimits["servers"];
  readonly memory_allowed_bytes: number | null;
  readonly over_budget: boolean;
  readonly spread_servers: boolean;
}

interface OthersRow {
  readonly running: ReadonlyArray<
    readonly [SessionId, number, number | null, ReadonlyArray<readonly [ServerId, GpuUuid, number | null]>]
  > | null;
  readonly accounts: ReadonlyArray<readonly [string, number, number]> | null;
  readonly lengths: readonly number[] | null;
}

interface QueueRow {
  readonly now_ms: number;
  readonly settings: Selectable<SchedulingTable>;
  readonly waiting: readonly WaitingRow[] | null;
  readonly others: OthersRow | null;
}

const WAITING = sql`select * from sessions where state in ('requested', 'queued')`;

/**
 * All that wait, with the settings and the database's time, and when there are several (or in any case) what they
 * are weighed against: one statement. Undefined: nobody waits.
 */
export async function readQueue(
  db: Database,
  { isWithOthers }: { readonly isWithOthers: boolean },
): Promise<QueueState | undefined> {
  const { rows } = await sql<QueueRow>`
    with waiting as materialized (${WAITING})
    select floor(extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms,
      (select to_json(scheduling) from scheduling) as settings,
      (select json_agg(json_build_object(
          'id', id, 'state', state, 'requested_count', requested_count, 'size', size, 'filters', filters,
          'preferred_gpus', preferred_gpus, 'share_key', share_key, 'priority', priority,
          'queue_number', queue_number, 'requested_ms', floor(extract(epoch from requested_at) * 1000),
          'max_duration_ms', max_duration_ms, 'reserved_server_id', reserved_server_id,
          'queue_position', queue_position, 'waits_for', waits_for,
          'estimated_ms', floor(extract(epoch from estimated_at) * 1000), 'servers_allowed', servers_allowed,
          'memory_allowed_bytes', memory_allowed_bytes, 'over_budget', over_budget,
          'spread_servers', spread_servers) order by queue_number)
        from waiting) as waiting,
      case when (select count(*) from waiting) > ${isWithOthers ? 0 : 1}::integer then ${othersColumn()} end as others
    `.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  if (row.waiting === null) return undefined;
  const { settings, waiting } = row;
  return {
    nowMs: row.now_ms,
    settings: {
      halfLifeMs: settings.half_life_ms,
      reserveAfterMs: settings.reserve_after_ms,
      agingMs: settings.aging_ms,
      keptShare: settings.kept_share,
    },
    waiting: waiting.map(toQueued),
    told: new Map(waiting.map((each) => [each.id, toTold(each)])),
    others: row.others === null ? undefined : toOthers(row.others),
  };
}

export async function readOthers(db: Database): Promise<Others> {
  const { rows } = await sql<{ others: OthersRow }>`
    with waiting as materialized (${WAITING}) select ${othersColumn()} as others`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  return toOthers(row.others);
}

/** Of a statement that has `waiting`. */
function othersColumn(): RawBuilder<OthersRow> {
  const users = sql`select share_key from waiting`;
  return sql<OthersRow>`json_build_object(
    'running', (select json_agg(json_build_array(id, granted_ms, max_duration_ms, gpus)) from (
        select sessions.id, floor(extract(epoch from granted_at) * 1000) as granted_ms, max_duration_ms,
          json_agg(json_build_array(gpus.server_id, gpu_uuid, memory_limit_bytes) order by ordinal) as gpus
          from sessions join session_gpus on session_gpus.session_id = sessions.id join gpus on gpus.uuid = gpu_uuid
         where state in ('granted', 'active') and session_gpus.released_at is null
         group by sessions.id) running),
    'accounts', (select json_agg(json_build_array(share_key, used, held))
        from (${accountsOf(users, sql`(select half_life_ms from scheduling)`)}) accounts),
    'lengths', (select json_agg(ms) from (
        select extract(epoch from ended_at - granted_at)::float8 * 1000 as ms from sessions
         where state = 'ended' and granted_at is not null
         order by ended_at desc limit ${REMEMBERED_LENGTHS}::integer) past))`;
}

function toQueued(row: WaitingRow): QueuedSession {
  return {
    id: row.id,
    user: row.share_key,
    count: row.requested_count,
    size: row.size,
    filters: row.filters.map(parseFilter),
    spreadServers: row.spread_servers,
    preferred: row.preferred_gpus ?? [],
    priority: row.priority,
    queueNumber: row.queue_number,
    requestedAtMs: row.requested_ms,
    maxDurationMs: row.max_duration_ms,
    reservedOn: row.reserved_server_id,
    isLast: row.over_budget,
    limits: { servers: row.servers_allowed, memoryBytes: row.memory_allowed_bytes },
  };
}

function toTold(row: WaitingRow): Told {
  return {
    isNew: row.state === "requested",
    position: row.queue_position,
    waitsFor: row.waits_for,
    estimateMs: row.estimated_ms,
    reservedOn: row.reserved_server_id,
  };
}

function toOthers({ running, accounts, lengths }: OthersRow): Others {
  return {
    running: (running ?? []).map(([id, grantedAtMs, maxDurationMs, gpus]) => ({
      ...{ id, grantedAtMs, maxDurationMs },
      placement: {
        servers: [...Map.groupBy(gpus, ([serverId]) => serverId)].map(([serverId, own]) => ({
          serverId,
          gpus: own.map(([, uuid, limit]) => ({ uuid, memoryLimitBytes: limit })),
        })),
      },
    })),
    accounts: new Map(
      (accounts ?? []).map(([user, used, held]) => [user, { usedGpuSeconds: used, heldGpus: held }]),
    ),
    lengths: new PastLengths(lengths ?? []),
  };
}

/** What users have had, what they have now included, decayed to this moment. */
export async function readAccounts(
  db: Database,
  users: readonly string[],
  halfLifeMs: number,
): Promise<ReadonlyMap<string, Account>> {
  const { rows } = await sql<{ share_key: string; used: number; held: number }>`
    ${accountsOf(sql`select unnest(${users}::text[])`, halfLifeMs)}`.execute(db);
  return new Map(rows.map((row) => [row.share_key, { usedGpuSeconds: row.used, heldGpus: row.held }]));
}

function accountsOf(users: RawBuilder<unknown>, halfLifeMs: number | RawBuilder<unknown>) {
  return sql`
    select share_key, sum(used) as used, sum(held) as held from (
      select share_key, gpu_seconds * ${remaining(sql`clock_timestamp() - as_of`, halfLifeMs)} as used, 0 as held
        from fair_share where share_key in (${users})
      union all
      select share_key, ${accruedSince(sql`clock_timestamp()`, halfLifeMs)}, coalesce(granted_gpus, 0)
        from sessions where state in ('granted', 'active') and share_key in (${users})
    ) parts group by share_key`;
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

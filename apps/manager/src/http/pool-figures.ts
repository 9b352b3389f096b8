import { TIMES } from "@farpool/contract";
import { sql } from "kysely";
import { nowPlus, type Database } from "../database/connect.ts";

/** The pool in numbers, in five statements however large it is. */
export interface PoolFigures {
  readonly sessions: Readonly<Record<string, number>>;
  readonly queue: { readonly sessions: number; readonly gpus: number; readonly oldestSeconds: number };
  readonly servers: Readonly<Record<string, number>>;
  readonly gpus: Readonly<Record<string, number>>;
  readonly memoryBytes: Readonly<Record<string, number>>;
  readonly clients: Readonly<Record<string, number>>;
}

const STATES = {
  sessions: ["requested", "queued", "granted", "active"],
  servers: ["online", "silent", "lost"],
};
const GPU_STATES = ["free", "shared", "whole", "unavailable"];

interface Counted {
  readonly state: string;
  readonly count: number;
}

const isOnline = sql<boolean>`servers.acceptor_ready and servers.last_seen_at > ${nowPlus(-TIMES.serverSilentMs)}`;

export async function readFigures(db: Database): Promise<PoolFigures> {
  const [sessions, queue, servers, gpus, clients] = await Promise.all([
    sql<Counted>`select state, count(*) as count from sessions where state <> 'ended' group by state`.execute(
      db,
    ),
    sql<{ sessions: number; gpus: number; oldest: number }>`
      select count(*) as sessions, coalesce(sum(requested_count), 0)::bigint as gpus,
        coalesce(extract(epoch from clock_timestamp() - min(requested_at)), 0)::float8 as oldest
      from sessions where state in ('requested', 'queued')`.execute(db),
    sql<Counted>`
      select case when last_seen_at <= ${nowPlus(-TIMES.serverLostMs)} then 'lost'
        when ${isOnline} then 'online' else 'silent' end as state, count(*) as count
      from servers group by 1`.execute(db),
    sql<Counted & { total: number; granted: number }>`
      select case when not (${isOnline}) then 'unavailable' when taken.is_whole then 'whole'
          when taken.gpu_uuid is not null then 'shared' else 'free' end as state,
        count(*) as count, sum(memory_total_bytes)::bigint as total,
        coalesce(sum(case when taken.is_whole then memory_total_bytes else taken.bytes end), 0)::bigint as granted
      from gpus join servers on servers.id = gpus.server_id
      left join (select gpu_uuid, bool_or(memory_limit_bytes is null) as is_whole, sum(memory_limit_bytes) as bytes
        from session_gpus where released_at is null group by gpu_uuid) taken on taken.gpu_uuid = gpus.uuid
      where gpus.present group by 1`.execute(db),
    sql<Counted>`
      select case when revoked_at is null then 'known' else 'revoked' end as state, count(*) as count
      from clients group by 1`.execute(db),
  ]);
  const [waiting] = queue.rows;
  const sum = (of: "total" | "granted"): number => gpus.rows.reduce((total, row) => total + row[of], 0);
  return {
    sessions: byState(STATES.sessions, sessions.rows),
    queue: {
      sessions: waiting?.sessions ?? 0,
      gpus: waiting?.gpus ?? 0,
      oldestSeconds: Math.max(0, waiting?.oldest ?? 0),
    },
    servers: byState(STATES.servers, servers.rows),
    gpus: byState(GPU_STATES, gpus.rows),
    memoryBytes: { total: sum("total"), granted: sum("granted") },
    clients: byState(["known", "revoked"], clients.rows),
  };
}

/** A state that nothing is in has a zero: a series that comes and goes is hard to alert on. */
function byState(states: readonly string[], rows: readonly Counted[]): Record<string, number> {
  return Object.fromEntries(
    states.map((state) => [state, rows.find((row) => row.state === state)?.count ?? 0]),
  );
}

export interface EventCount {
  readonly state: string;
  readonly reason: string | null;
  readonly count: number;
}

export interface EventCounter {
  /** What has happened since the last call. */
  next(): Promise<readonly EventCount[]>;
}

/**
 * Counts changes of sessions by the numbers of their events. Events are written under the placement lock, one transaction
 * after the other, so none with a smaller number appears later.
 */
export async function countEvents(db: Database): Promise<EventCounter> {
  const { last: start } = await db
    .selectFrom("session_events")
    .select((eb) => eb.fn.coalesce(eb.fn.max<number | null>("id"), sql<number>`0`).as("last"))
    .executeTakeFirstOrThrow();
  let last = start ?? 0;
  return {
    async next() {
      const { rows } = await sql<EventCount & { last: number }>`
        select event.state, case when event.state = 'ended' then session.end_reason end as reason,
          count(*) as count, max(event.id) as last
        from session_events event join sessions session on session.id = event.session_id
        where event.id > ${last} group by 1, 2`.execute(db);
      last = Math.max(last, ...rows.map((row) => row.last));
      return rows;
    },
  };
}

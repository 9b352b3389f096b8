import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `alter table sessions
     add column priority integer not null default 50 check (priority between 0 and 100),
     add column filters jsonb not null default '[]',
     add column max_duration_ms bigint check (max_duration_ms > 0),
     add column share_key text not null default '',
     add column granted_gpus double precision,
     add column preferred_gpus jsonb,
     add column estimated_at timestamptz,
     add column reserved_server_id uuid references servers`,
  `update sessions set share_key = client_user || '@' || client_host`,
  `update sessions set granted_gpus = (
     select sum(coalesce(memory_limit_bytes::float8 / memory_total_bytes, 1))
     from session_gpus join gpus on gpus.uuid = gpu_uuid where session_id = sessions.id
   ) where granted_at is not null`,
  // What the same client had lately, and how long sessions took.
  `create index sessions_held_by_client on sessions (client_key, ended_at desc)
     where state = 'ended' and granted_at is not null`,
  `create index sessions_held on sessions (ended_at desc) where state = 'ended' and granted_at is not null`,
  `create table fair_share (
     share_key text primary key,
     gpu_seconds double precision not null,
     as_of timestamptz not null
   )`,
  `create table scheduling (
     only_row boolean primary key default true check (only_row),
     half_life_ms bigint not null check (half_life_ms > 0),
     reserve_after_ms bigint not null check (reserve_after_ms >= 0),
     aging_ms bigint not null check (aging_ms > 0),
     kept_share double precision not null check (kept_share between 0 and 1)
   )`,
  `insert into scheduling (half_life_ms, reserve_after_ms, aging_ms, kept_share)
     values (86400000, 120000, 300000, 0.05)`,
];

/** What the queue needs to be fair: priorities, filters, known lengths, and what users have had lately. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

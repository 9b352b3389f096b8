import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `create table servers (
     id uuid primary key,
     name text not null,
     version text not null,
     driver_version text not null,
     simulated boolean not null,
     endpoints jsonb not null,
     acceptor_ready boolean not null,
     desired_revision bigint not null default 1,
     registered_at timestamptz not null default clock_timestamp(),
     last_seen_at timestamptz not null
   )`,
  `create table gpus (
     uuid text primary key,
     server_id uuid not null references servers,
     index integer not null,
     name text not null,
     memory_total_bytes bigint not null check (memory_total_bytes > 0),
     memory_used_bytes bigint,
     compute_capability text not null,
     pci_bus_id text not null,
     multiprocessors integer not null,
     present boolean not null
   )`,
  `create index gpus_of_server on gpus (server_id)`,
  `create table sessions (
     id text primary key,
     queue_number bigint generated always as identity,
     state text not null check (state in ('requested', 'queued', 'granted', 'active', 'ended')),
     name text,
     requested_count integer not null check (requested_count > 0),
     size jsonb not null,
     client_host text not null,
     client_user text not null,
     client_pid bigint not null,
     client_program text,
     secret text not null,
     server_id uuid references servers,
     queue_position integer,
     waits_for text,
     wait_until timestamptz,
     lease_expires_at timestamptz not null,
     requested_at timestamptz not null,
     granted_at timestamptz,
     active_at timestamptz,
     ended_at timestamptz,
     released_at timestamptz,
     end_reason text,
     end_message text,
     ended_at_revision bigint,
     revision bigint not null default 1,
     check ((state = 'ended') = (ended_at is not null)),
     check (state not in ('granted', 'active') or (server_id is not null and granted_at is not null))
   )`,
  `create index sessions_alive on sessions (queue_number) where state <> 'ended'`,
  `create index sessions_unreleased on sessions (server_id) where state = 'ended' and released_at is null`,
  `create index sessions_ended on sessions (ended_at desc) where state = 'ended'`,
  `create table session_gpus (
     session_id text not null references sessions,
     ordinal integer not null,
     gpu_uuid text not null references gpus,
     memory_limit_bytes bigint check (memory_limit_bytes > 0),
     released_at timestamptz,
     primary key (session_id, ordinal),
     unique (session_id, gpu_uuid)
   )`,
  `create index session_gpus_taken on session_gpus (gpu_uuid) where released_at is null`,
  `create table session_events (
     id bigint generated always as identity primary key,
     session_id text not null references sessions,
     at timestamptz not null default clock_timestamp(),
     state text not null,
     reason text not null
   )`,
  `create index session_events_of_session on session_events (session_id, id)`,
  `create table processes (
     session_id text not null references sessions,
     connection_id text not null,
     server_id uuid not null references servers,
     worker_pid bigint not null,
     client_pid bigint,
     program text,
     started_at timestamptz not null,
     ended_at timestamptz,
     exit text,
     report jsonb,
     reported_at timestamptz not null,
     primary key (session_id, connection_id)
   )`,
];

/** Servers, GPUs, sessions, their events, and the processes that used them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  // Both are columns of policies, too; whoever comes first makes them.
  `alter table sessions add column if not exists project text`,
  `alter table sessions add column if not exists labels jsonb`,
  // Up to where usage records tell of it, and whether there will be more of them.
  `alter table sessions add column usage_settled_until timestamptz`,
  `alter table sessions add column usage_open boolean not null default true`,
  // Its budget is spent, and it waits behind all others.
  `alter table sessions add column over_budget boolean not null default false`,
  // What it was told about its budget when it was made.
  `alter table sessions add column budget_notice text`,
  `create index sessions_usage_open on sessions (granted_at) where usage_open and granted_at is not null`,
  `create table billing_settings (
     only_row boolean primary key default true check (only_row),
     currency text not null default 'EUR',
     time_zone text not null default 'UTC'
   )`,
  `insert into billing_settings default values`,
  `create table prices (
     id uuid primary key,
     model text,
     per_hour bigint check (per_hour >= 0),
     from_at timestamptz not null,
     to_at timestamptz,
     created_at timestamptz not null default clock_timestamp(),
     check (to_at is null or to_at > from_at)
   )`,
  `create table budgets (
     id uuid primary key,
     scope text not null check (scope in ('project', 'user')),
     subject text not null,
     amount bigint not null check (amount >= 0),
     action text not null check (action in ('warn', 'queue-last', 'refuse')),
     created_at timestamptz not null default clock_timestamp(),
     unique (scope, subject)
   )`,
  `create table outages (
     id bigint generated always as identity primary key,
     session_id text references sessions,
     from_at timestamptz not null,
     to_at timestamptz not null,
     reason text not null,
     check (to_at > from_at)
   )`,
  `create index outages_of_session on outages (session_id)`,
  `create table usage_records (
     id bigint generated always as identity primary key,
     kind text not null check (kind in ('usage', 'correction')),
     session_id text not null references sessions,
     session_name text,
     ordinal integer not null,
     gpu_uuid text not null,
     model text not null,
     server_id uuid not null,
     server_name text not null,
     user_name text not null,
     user_source text not null,
     client text not null,
     project text,
     labels jsonb not null default '{}',
     program text,
     from_at timestamptz not null,
     to_at timestamptz not null,
     held_ms bigint not null,
     charged_ms bigint not null,
     busy_ms bigint not null,
     price_per_hour bigint,
     cost bigint not null,
     currency text not null,
     note text,
     recorded_at timestamptz not null default clock_timestamp()
   )`,
  `create index usage_records_by_time on usage_records (from_at)`,
  `create index usage_records_of_session on usage_records (session_id)`,
  // Whatever two managers may think at once: a moment of a GPU of a session is told by one record.
  `create unique index usage_records_once on usage_records (session_id, ordinal, from_at) where kind = 'usage'`,
  `create table usage_process_records (
     id bigint generated always as identity primary key,
     kind text not null check (kind in ('usage', 'correction')),
     session_id text not null references sessions,
     connection_id text,
     program text,
     account text not null,
     user_name text not null,
     user_source text not null,
     from_at timestamptz not null,
     to_at timestamptz not null,
     held_ms bigint not null,
     charged_ms bigint not null,
     busy_ms bigint not null,
     cost bigint not null,
     recorded_at timestamptz not null default clock_timestamp()
   )`,
  `create index usage_process_records_by_time on usage_process_records (from_at)`,
  `create index usage_process_records_of_session on usage_process_records (session_id)`,
  `create function farpool_refuse_edit() returns trigger language plpgsql as $$
   begin
     raise exception 'usage records are never edited: a correction is a record of its own';
   end $$`,
  `create trigger never_edited before update or delete or truncate on usage_records
     for each statement execute function farpool_refuse_edit()`,
  `create trigger never_edited before update or delete or truncate on usage_process_records
     for each statement execute function farpool_refuse_edit()`,
  `create table usage_samples (
     resolution_s integer not null check (resolution_s in (10, 300, 3600)),
     session_id text not null references sessions,
     connection_id text not null,
     at timestamptz not null,
     busy_ms bigint not null,
     memory_bytes bigint not null,
     primary key (session_id, connection_id, at, resolution_s)
   )`,
  `create index usage_samples_by_age on usage_samples (resolution_s, at)`,
  // When its agent last spoke; 'last_seen_at' is also moved by managers that were away themselves.
  `alter table servers add column heard_at timestamptz`,
  // What a server says of itself, and what administrators say: theirs counts, and null takes a label away.
  `alter table servers add column own_labels jsonb not null default '{}'`,
  `alter table servers add column given_labels jsonb not null default '{}'`,
  `alter table servers add column labels jsonb not null
     generated always as (jsonb_strip_nulls(own_labels || given_labels)) stored`,
  `alter table servers add column drained_at timestamptz`,
  `alter table servers add column drain_reason text`,
  `alter table servers add column maintenance_until timestamptz`,
  `alter table servers add column maintenance_message text`,
  `alter table servers add column driver_release text`,
  `alter table gpus add column health jsonb`,
];

/** Usage records, prices, budgets, samples; and how servers are and whether they are to serve. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

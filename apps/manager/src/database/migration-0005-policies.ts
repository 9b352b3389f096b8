import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `create table policies (
     scope_kind text not null check (scope_kind in ('user', 'group', 'client', 'project', 'pool')),
     scope_name text not null,
     fields jsonb not null,
     updated_at timestamptz not null default clock_timestamp(),
     primary key (scope_kind, scope_name),
     check ((scope_kind = 'pool') = (scope_name = ''))
   )`,
  `create table user_groups (
     name text primary key,
     created_at timestamptz not null default clock_timestamp()
   )`,
  `create table user_group_members (
     group_name text not null references user_groups on delete cascade,
     user_name text not null,
     primary key (group_name, user_name)
   )`,
  `create index user_group_members_of_user on user_group_members (user_name)`,
  `create table client_specifications (
     client_key text primary key references clients,
     specification jsonb not null,
     updated_at timestamptz not null default clock_timestamp()
   )`,
  `alter table sessions
     add column if not exists max_duration_ms bigint,
     add column if not exists project text,
     add column if not exists labels jsonb not null default '{}',
     add column purpose text not null default 'run' check (purpose in ('run', 'reserve', 'service')),
     add column idle_timeout_ms bigint,
     add column auto_release_ms bigint,
     add column policy_user text,
     add column policy_user_source text,
     add column servers_allowed jsonb,
     add column memory_allowed_bytes bigint,
     add column attached_at timestamptz,
     add column last_busy_at timestamptz,
     add column idle_warned_at timestamptz,
     add column duration_warned_at timestamptz`,
  `create index sessions_living_of_user on sessions (policy_user) where state <> 'ended'`,
  `create index sessions_living_of_project on sessions (project) where state <> 'ended'`,
  `create table session_notices (
     number bigint generated always as identity primary key,
     session_id text not null references sessions,
     at timestamptz not null default clock_timestamp(),
     kind text not null check (kind in ('message', 'idle', 'duration')),
     text text not null
   )`,
  `create index session_notices_of_session on session_notices (session_id, number)`,
  // What the last use of a session is compared with: a server that is silent says nothing about use.
  `alter table servers add column reported_at timestamptz`,
];

/** Policies, groups of users, what a client's service may have, and how long sessions live. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

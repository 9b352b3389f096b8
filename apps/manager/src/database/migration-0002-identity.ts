import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  // One row: the manager that makes it first makes it for all.
  `create table pool_identity (
     only_row boolean primary key default true check (only_row),
     pool_id uuid not null,
     authority_certificate text not null,
     authority_key text not null,
     created_at timestamptz not null default clock_timestamp()
   )`,
  `create table grant_keys (
     thumbprint text primary key,
     public_x text not null,
     private_key text not null,
     created_at timestamptz not null default clock_timestamp()
   )`,
  `create table clients (
     thumbprint text primary key,
     public_x text not null,
     name text not null,
     account text not null,
     first_seen_at timestamptz not null default clock_timestamp(),
     last_seen_at timestamptz not null default clock_timestamp(),
     revoked_at timestamptz,
     revoked_reason text
   )`,
  `create index clients_revoked on clients (revoked_at) where revoked_at is not null`,
  // Null: sessions from before clients had keys; they get no grants.
  `alter table sessions add column client_key text references clients`,
  `create index sessions_of_client on sessions (client_key) where state <> 'ended'`,
  `create table audit (
     id uuid primary key,
     at timestamptz not null default clock_timestamp(),
     kind text not null,
     session_id text,
     connection_id text,
     client_key text,
     server_id uuid,
     peer text,
     reason text not null
   )`,
  `create index audit_by_time on audit (at desc)`,
  `create index session_events_by_time on session_events (at desc) where state in ('active', 'ended')`,
];

/** Keys and certificates of the pool, its clients, and what was done or refused. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

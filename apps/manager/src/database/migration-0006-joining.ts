import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `create table users (
     id uuid primary key,
     name text not null,
     role text not null check (role in ('user', 'administrator')),
     password_hash text,
     created_at timestamptz not null default clock_timestamp(),
     last_sign_in_at timestamptz,
     disabled_at timestamptz
   )`,
  // ALICE and alice are one person.
  `create unique index users_by_name on users (lower(name))`,
  `create table join_tokens (
     id uuid primary key,
     secret_hash text not null unique,
     role text not null check (role in ('server', 'client')),
     uses integer not null check (uses > 0),
     uses_left integer not null check (uses_left >= 0),
     created_by text not null,
     created_at timestamptz not null default clock_timestamp(),
     expires_at timestamptz not null,
     revoked_at timestamptz
   )`,
  `create table machines (
     id uuid primary key,
     role text not null check (role in ('server', 'client')),
     name text not null,
     labels jsonb not null default '{}',
     thumbprint text not null unique,
     public_x text not null,
     join_token_id uuid references join_tokens,
     joined_at timestamptz not null,
     last_seen_at timestamptz not null,
     certificates integer not null default 1,
     serial text not null,
     previous_serial text,
     serial_used_at timestamptz,
     certificate_expires_at timestamptz not null,
     revoked_at timestamptz,
     revoked_reason text
   )`,
  `create unique index machines_by_name on machines (role, lower(name)) where revoked_at is null`,
  `create table account_mappings (
     client_key text not null references clients,
     account text not null,
     user_id uuid not null references users,
     primary key (client_key, account)
   )`,
  `create table sign_in_codes (
     secret_hash text primary key,
     user_id uuid not null references users,
     created_by text not null,
     expires_at timestamptz not null,
     used_at timestamptz
   )`,
  `create table api_tokens (
     id uuid primary key,
     secret_hash text not null unique,
     user_id uuid not null references users,
     name text not null,
     kind text not null check (kind in ('sign-in', 'api')),
     scopes jsonb not null,
     created_at timestamptz not null default clock_timestamp(),
     expires_at timestamptz not null,
     last_used_at timestamptz,
     revoked_at timestamptz
   )`,
  `create table attempts (
     subject text primary key,
     failures integer not null,
     ends_at timestamptz not null
   )`,
  // Whose session it is, when the pool knows the person; reported_account is what the client said.
  `alter table sessions add column user_id uuid references users`,
  `alter table sessions add column reported_account text`,
];

/** Machines that join, people who sign in, and what they show for it. Secrets are kept as hashes. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

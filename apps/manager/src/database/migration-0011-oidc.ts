import { sql, type Kysely } from "kysely";

/** People who sign in at an identity provider that the pool trusts. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const statements = [
    `create table oidc_settings (
       only_row boolean primary key default true check (only_row),
       issuer text not null,
       client_id text not null,
       client_secret text,
       user_claim text not null,
       email_domain text,
       creates_users boolean not null
     )`,
    `create table oidc_flows (
       secret_hash text primary key,
       device_code text not null,
       interval_s integer not null,
       next_at timestamptz not null default clock_timestamp(),
       expires_at timestamptz not null
     )`,
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}

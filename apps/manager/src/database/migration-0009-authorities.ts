import { sql, type Kysely } from "kysely";

/** A pool may have several authorities while one takes over from another. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const statements = [
    `create table pool_authorities (
       id bigint generated always as identity primary key,
       certificate text not null,
       private_key text,
       created_at timestamptz not null,
       presented_at timestamptz,
       dropped_at timestamptz
     )`,
    `insert into pool_authorities (certificate, private_key, created_at, presented_at)
       select authority_certificate, authority_key, created_at, created_at from pool_identity`,
    `alter table pool_identity drop column authority_certificate, drop column authority_key`,
    `alter table machines add column authority_id bigint references pool_authorities`,
    `update machines set authority_id = (select min(id) from pool_authorities)`,
  ];
  for (const statement of statements) await sql.raw(statement).execute(db);
}

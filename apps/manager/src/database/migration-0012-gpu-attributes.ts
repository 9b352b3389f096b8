import { sql, type Kysely } from "kysely";

/** What clients are told of a GPU before they have one. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table gpus add column attributes jsonb`).execute(db);
}

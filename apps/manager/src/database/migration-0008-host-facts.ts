import { sql, type Kysely } from "kysely";

/** What a server's agent tells of its machine, and how far the clocks are apart. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql.raw(`alter table servers add column host jsonb`).execute(db);
}

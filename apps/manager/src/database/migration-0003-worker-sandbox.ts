import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `alter table servers add column worker_sandbox jsonb`,
  `alter table processes add column sandbox jsonb`,
];

/** The layers of the sandbox around workers: what a server's have, and what each of them had. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

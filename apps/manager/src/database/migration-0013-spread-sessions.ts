import { sql, type Kysely } from "kysely";

const STATEMENTS = [
  `alter table sessions add column spread_servers boolean not null default false`,
  // One row for each server of a session that is on several, the first included; none for others.
  `create table session_servers (
     session_id text not null references sessions,
     server_id uuid not null references servers,
     position integer not null check (position >= 0),
     opened_at timestamptz,
     ended_at_revision bigint,
     released_at timestamptz,
     primary key (session_id, server_id)
   )`,
  // Who asks for a server's sessions asks for those that it holds: few, however many there were.
  `create index session_servers_held on session_servers (server_id) where released_at is null`,
];

/** Sessions whose GPUs lie on several servers. */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

import { FarpoolError } from "@farpool/contract";
import { sql, type RawBuilder, type Selectable } from "kysely";
import type { Database } from "../database/connect.ts";
import type { UsersTable } from "../database/schema-identity.ts";
import { findUser } from "../identity/users.ts";

/** Somebody of whom the pool has data: a user of the pool, or an account that a client has reported, `account@host`. */
export interface DataSubject {
  /** As sessions and records have it. */
  readonly name: string;
  readonly user: Selectable<UsersTable> | undefined;
  /** Accounts of hers on clients, `account@host`: what is mapped to her, and what her sessions were reported with. */
  readonly places: readonly string[];
}

export async function findSubject(db: Database, named: string): Promise<DataSubject> {
  const user = await findUser(db, named);
  const name = user?.name ?? named;
  const { rows } = await sql<{ place: string }>`
    select account_mappings.account || '@' || clients.name as place from account_mappings
      join clients on clients.thumbprint = client_key where user_id = ${user?.id ?? null}
    union
    select reported_account || '@' || client_host from sessions
     where ${isSubject(name)} and reported_account is not null
    order by 1`.execute(db);
  const { rows: known } = await sql<{ found: boolean }>`
    select exists (select from sessions where ${isSubject(name)})
        or exists (select from usage_records where user_name = ${name}) as found`.execute(db);
  if (user === undefined && known[0]?.found !== true)
    throw new FarpoolError("FARPOOL_NOT_FOUND", `the pool has nothing of '${named}'`, {
      hint: "'farpool users' lists its users; others are named as 'farpool usage --by user' names them, dev1@ws-17",
    });
  return { name, user, places: rows.map(({ place }) => place) };
}

/** Which rows of `sessions` are of somebody. */
export function isSubject(name: string): RawBuilder<boolean> {
  return sql<boolean>`coalesce(sessions.policy_user, sessions.client_user || '@' || sessions.client_host) = ${name}`;
}

/** Which rows of `audit` tell of somebody: by a session of hers, or by name. */
export function tellsOf(subject: DataSubject): RawBuilder<boolean> {
  return sql<boolean>`(audit.session_id in (select id from sessions where ${isSubject(subject.name)})
    or ${namedIn("audit.reason", subject)})`;
}

/** Whether a text has her name, or one of her accounts with its machine. */
export function namedIn(column: string, { name, places }: DataSubject): RawBuilder<boolean> {
  return sql<boolean>`${sql.ref(column)} ~* any(${[name, ...places].map(wordPattern)}::text[])`;
}

/** A name as a word of its own: `anna` is not meant where it says `joanna` or `anna-lena`. */
export function wordPattern(name: string): string {
  const escaped = name.replaceAll(/[^A-Za-z0-9_]/g, String.raw`\$&`);
  return `(^|[^[:alnum:]._@-])${escaped}(?=$|[^[:alnum:]_@-])`;
}

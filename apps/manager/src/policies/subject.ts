import type { PolicyUserSource, SessionId, SessionRequest, Thumbprint } from "@farpool/contract";
import type { Subject } from "@farpool/policies";
import type { Database, Tx } from "../database/connect.ts";
import type { Person } from "../identity/persons.ts";

export interface SessionSubject extends Subject {
  readonly user: string;
  readonly source: PolicyUserSource;
  readonly client: Thumbprint | null;
}

/** Who asks for a session. */
export interface Asker {
  readonly user: string;
  readonly source: PolicyUserSource;
  readonly clientKey: Thumbprint;
  readonly project: string | null;
}

/**
 * Who a session is for: who has signed in, or whom an administrator has declared the account to be, by the name that she has
 * in the pool. Of others a client reports the local account, which nobody proves: it is named with its machine, `account@host`.
 */
export function askerOf(
  { client, project }: Pick<SessionRequest, "client" | "project">,
  person: Person,
  clientKey: Thumbprint,
): Asker {
  const { source } = person;
  const user = source === "reported" ? `${client.user}@${client.host}` : person.name;
  return { user, source, clientKey, project };
}

/** The same of a session that there is, with the groups of now. */
export async function subjectOfSession(tx: Tx, id: SessionId): Promise<SessionSubject> {
  const row = await tx
    .selectFrom("sessions")
    .select(["policy_user", "policy_user_source", "client_user", "client_host", "client_key", "project"])
    .where("id", "=", id)
    .executeTakeFirstOrThrow();
  const user = row.policy_user ?? `${row.client_user}@${row.client_host}`;
  return {
    user,
    source: row.policy_user_source ?? "reported",
    client: row.client_key,
    project: row.project,
    groups: await readGroupsOf(tx, user),
  };
}

export async function readGroupsOf(db: Database, user: string): Promise<string[]> {
  const rows = await db
    .selectFrom("user_group_members")
    .select("group_name")
    .where("user_name", "=", user)
    .orderBy("group_name")
    .execute();
  return rows.map((row) => row.group_name);
}

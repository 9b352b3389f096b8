import type { SessionId, Thumbprint, PolicyUserSource } from "@farpool/contract";
import type { Subject } from "@farpool/policies";
import type { Database, Tx } from "../database/connect.ts";

export interface SessionSubject extends Subject {
  readonly user: string;
  readonly source: PolicyUserSource;
  readonly client: Thumbprint | null;
}

interface Asker {
  readonly clientKey: Thumbprint;
  /** What the client says of itself. */
  readonly client: { readonly user: string; readonly host: string };
  readonly project: string | null;
}

/**
 * Who a session is for. A client reports its local account, `account@host`; whatever else the pool knows of people
 * is looked up here, and nowhere else.
 */
export async function subjectOf(tx: Tx, { clientKey, client, project }: Asker): Promise<SessionSubject> {
  const user = `${client.user}@${client.host}`;
  return { user, source: "reported", client: clientKey, project, groups: await readGroupsOf(tx, user) };
}

/** The same of a session that there is. */
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

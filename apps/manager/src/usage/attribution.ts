import { sql, type RawBuilder } from "kysely";

/** Whose a session is, as its usage records tell it for good. */
export interface Attribution {
  readonly user_name: string;
  /** How it is known: reported by the client, mapped by an administrator, or signed in. */
  readonly user_source: string;
  /** The account on the client. */
  readonly account: string;
  readonly client: string;
  readonly project: string | null;
  readonly labels: Record<string, string>;
}

/**
 * The one place that says whose a session is: columns for `sessions as session`.
 */
export function attributionColumns(): RawBuilder<Attribution> {
  return sql<Attribution>`
    ${userOfSession()} as user_name,
    coalesce(session.policy_user_source, 'reported') as user_source,
    coalesce(session.reported_account, session.client_user) as account,
    session.client_host as client,
    ${projectOfSession()} as project,
    coalesce(session.labels, '{}') as labels`;
}

/** Nobody proves who a reported account is, so it is named with its machine. */
export function userOfSession(): RawBuilder<string> {
  return sql<string>`coalesce(session.policy_user, session.client_user || '@' || session.client_host)`;
}

export function projectOfSession(): RawBuilder<string | null> {
  return sql<string | null>`session.project`;
}

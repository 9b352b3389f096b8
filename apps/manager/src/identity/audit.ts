import { randomUUID } from "node:crypto";
import {
  thumbprintSchema,
  type AuditEntry,
  type Refusal,
  type ServerId,
  type SessionId,
  type Thumbprint,
} from "@farpool/contract";
import { sql } from "kysely";
import type { Database, Tx } from "../database/connect.ts";
import { LOCAL_PEER } from "../http/principal.ts";

interface Deed {
  readonly kind: Exclude<AuditEntry["kind"], "session-started" | "session-ended" | "refused">;
  readonly reason: string;
  readonly clientKey?: Thumbprint | null;
  readonly sessionId?: SessionId | null;
  readonly serverId?: ServerId | null;
  readonly peer?: string | null;
}

export async function recordAudit(db: Database | Tx, deed: Deed): Promise<void> {
  const { kind, reason, sessionId = null, clientKey = null, serverId = null } = deed;
  const about = { client_key: clientKey, session_id: sessionId, server_id: serverId };
  // The manager's own machine is no place to tell of.
  const peer = deed.peer === LOCAL_PEER ? null : (deed.peer ?? null);
  await db
    .insertInto("audit")
    .values({ id: randomUUID(), kind, ...about, peer, reason })
    .execute();
}

/** Connections that a server turned away. A report that comes twice counts once. */
export async function recordRefusals(
  db: Database,
  serverId: ServerId,
  refusals: readonly Refusal[],
): Promise<void> {
  if (refusals.length === 0) return;
  await db
    .insertInto("audit")
    .values(
      refusals.map((refusal) => ({
        id: refusal.id,
        at: refusal.at,
        kind: "refused" as const,
        session_id: refusal.sessionId,
        connection_id: refusal.connectionId,
        server_id: serverId,
        peer: refusal.peer,
        reason: refusal.reason,
      })),
    )
    .onConflict((conflict) => conflict.column("id").doNothing())
    .execute();
}

interface Row {
  at: Date;
  kind: AuditEntry["kind"];
  session_id: string | null;
  connection_id: string | null;
  client_key: string | null;
  client_name: string | null;
  account: string | null;
  server_name: string | null;
  peer: string | null;
  reason: string;
}

/** Newest first. Starts and ends of sessions are events of theirs already; everything else is in `audit`. */
export async function readAudit(db: Database, last: number): Promise<AuditEntry[]> {
  const { rows } = await sql<Row>`
    with entries as (
      (select at, kind, session_id, connection_id, client_key, server_id, peer, reason
         from audit order by at desc limit ${last})
      union all
      (select event.at, case event.state when 'active' then 'session-started' else 'session-ended' end,
              event.session_id, null, session.client_key, session.server_id, null, event.reason
         from session_events event join sessions session on session.id = event.session_id
        where event.state in ('active', 'ended') order by event.at desc limit ${last})
    )
    select entries.*, clients.name as client_name, clients.account, coalesce(several.names, servers.name) as server_name
      from entries
      left join clients on clients.thumbprint = entries.client_key
      left join servers on servers.id = entries.server_id
      left join lateral (
        -- What happened to a session on several servers happened on all of them, unless one tells of itself.
        select string_agg(name, ', ' order by position) as names
          from session_servers part join servers on servers.id = part.server_id
         where part.session_id = entries.session_id and entries.kind in ('session-started', 'session-ended')
      ) several on true
     order by entries.at desc limit ${last}`.execute(db);
  return rows.map((row) => ({
    at: row.at.toISOString(),
    kind: row.kind,
    sessionId: row.session_id,
    connectionId: row.connection_id,
    client: thumbprintSchema.nullable().parse(row.client_key),
    clientName: row.client_name,
    user: row.account,
    serverName: row.server_name,
    peer: row.peer,
    reason: row.reason,
  }));
}

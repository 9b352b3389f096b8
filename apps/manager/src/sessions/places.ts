import type { Endpoint, ServerId, Session } from "@farpool/contract";
import { sql, type JoinBuilder, type RawBuilder } from "kysely";
import type { Schema } from "../database/schema.ts";

/** `sessions left join session_servers`: of a session on several servers, a row for each that has not let go of its part. */
export const heldParts = (join: JoinBuilder<Schema, "sessions" | "session_servers">) =>
  join.onRef("session_servers.session_id", "=", "sessions.id").on("session_servers.released_at", "is", null);

/** The server of such a row: sessions on one server have no parts. */
export const placeOf = sql<ServerId>`coalesce(session_servers.server_id, sessions.server_id)`;

/** Whether a session is on this server, wherever `sessions` is read alone. */
export function isOn(serverId: ServerId): RawBuilder<boolean> {
  return sql<boolean>`(sessions.server_id = ${serverId} or exists (
    select from session_servers where session_id = sessions.id and session_servers.server_id = ${serverId}))`;
}

/** All servers of a session that was read, the first one first. */
export function placesOf({ serverId, furtherServers }: Session): readonly ServerId[] {
  return serverId === null ? [] : [serverId, ...furtherServers.map(({ id }) => id)];
}

export interface Place {
  readonly id: ServerId;
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
}

/** The servers of a session as a column of a statement that reads `sessions`, the first one first; none before it is granted. */
export const serversOfSession = sql<readonly Place[]>`(
  select coalesce(json_agg(json_build_object('id', place.id, 'name', place.name, 'endpoints', place.endpoints)
    order by position), '[]')
  from (
    select sessions.server_id as id, 0 as position
    union select server_id, position from session_servers where session_id = sessions.id
  ) part join servers place on place.id = part.id)`;

import { FarpoolError, type ServerId, type SessionGrant, type SessionId } from "@farpool/contract";
import { SESSION_GRANT_SECONDS, signSessionGrant } from "@farpool/identity/grants";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import { serversOfSession } from "../sessions/places.ts";
import type { PoolIdentity } from "./pool-identity.ts";

/**
 * The manager's word that the client machine has this session on one of its servers, the first unless another is named. It
 * ends with the session, at the latest after a while.
 */
export async function grantSession(
  db: Database,
  { poolId, grantKey }: PoolIdentity,
  { id, serverId: named }: { readonly id: SessionId; readonly serverId: ServerId | undefined },
): Promise<SessionGrant> {
  const row = await db
    .selectFrom("sessions")
    .leftJoin("clients", "clients.thumbprint", "sessions.client_key")
    .select(["state", "client_key", "client_user", "clients.name as client_name", "revoked_at"])
    .select(serversOfSession.as("servers"))
    .select(sql<number>`floor(extract(epoch from clock_timestamp()))::float8`.as("now"))
    .where("sessions.id", "=", id)
    .executeTakeFirst();
  if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  if (row.state === "ended") throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
  const [first] = row.servers;
  if (first === undefined)
    throw new FarpoolError("FARPOOL_CONFLICT", `the session ${id} is ${row.state}, it has no server yet`);
  const serverId = named ?? first.id;
  if (!row.servers.some((server) => server.id === serverId))
    throw new FarpoolError(
      "FARPOOL_BAD_REQUEST",
      `the session ${id} is on ${row.servers.map((server) => `${server.name} (${server.id})`).join(" and ")}, not on the server ${serverId}`,
      { hint: "without serverId the grant is for the first of them" },
    );
  if (row.client_key === null || row.revoked_at !== null) {
    const why = row.client_key === null ? "was made before clients had keys" : "belongs to a revoked client";
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the session ${id} ${why}`, {
      hint: "end it and start another",
    });
  }
  const grant = await signSessionGrant(grantKey, {
    poolId,
    sessionId: id,
    serverId,
    client: row.client_key,
    user: row.client_user,
    ...(row.client_name !== null && { clientName: row.client_name }),
    signedAt: row.now,
  });
  return { grant, validSeconds: SESSION_GRANT_SECONDS };
}

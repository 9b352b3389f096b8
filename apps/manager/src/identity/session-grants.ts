import { FarpoolError, type SessionGrant, type SessionId } from "@farpool/contract";
import { SESSION_GRANT_SECONDS, signSessionGrant } from "@farpool/identity/grants";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import type { PoolIdentity } from "./pool-identity.ts";

/** The manager's word that the client machine has this session. It ends with the session, at the latest after a while. */
export async function grantSession(
  db: Database,
  { poolId, grantKey }: PoolIdentity,
  id: SessionId,
): Promise<SessionGrant> {
  const row = await db
    .selectFrom("sessions")
    .leftJoin("clients", "clients.thumbprint", "sessions.client_key")
    .select(["state", "server_id", "client_key", "client_user", "clients.name as client_name", "revoked_at"])
    .select(sql<number>`floor(extract(epoch from clock_timestamp()))::float8`.as("now"))
    .where("sessions.id", "=", id)
    .executeTakeFirst();
  if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  if (row.state === "ended") throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
  if (row.server_id === null)
    throw new FarpoolError("FARPOOL_CONFLICT", `the session ${id} is ${row.state}, it has no server yet`);
  if (row.client_key === null || row.revoked_at !== null) {
    const why = row.client_key === null ? "was made before clients had keys" : "belongs to a revoked client";
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the session ${id} ${why}`, {
      hint: "end it and start another",
    });
  }
  const grant = await signSessionGrant(grantKey, {
    poolId,
    sessionId: id,
    serverId: row.server_id,
    client: row.client_key,
    user: row.client_user,
    ...(row.client_name !== null && { clientName: row.client_name }),
    signedAt: row.now,
  });
  return { grant, validSeconds: SESSION_GRANT_SECONDS };
}

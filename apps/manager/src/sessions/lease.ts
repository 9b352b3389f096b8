import { FarpoolError, TIMES, type SessionId, type SessionState } from "@farpool/contract";
import { sql } from "kysely";
import { againAfterDeadlock, now, nowPlus, type Database } from "../database/connect.ts";
import { heldParts, placeOf } from "./places.ts";

function leaseEnd() {
  const ms = sql<number>`case purpose when 'service' then ${sql.lit(TIMES.serviceLeaseMs)} else ${sql.lit(TIMES.leaseMs)} end`;
  return sql<Date>`clock_timestamp() + ${ms} * interval '1 millisecond'`;
}

/** The client is alive. */
export async function renewLease(db: Database, id: SessionId): Promise<SessionState> {
  const row = await db
    .updateTable("sessions")
    .set({ lease_expires_at: leaseEnd(), attached_at: now() })
    .where("id", "=", id)
    .returning("state")
    .executeTakeFirst();
  if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  return row.state;
}

export async function renewLeases(db: Database, ids: readonly SessionId[]): Promise<void> {
  if (ids.length === 0) return;
  await againAfterDeadlock(() =>
    db
      .updateTable("sessions")
      .set({ lease_expires_at: leaseEnd(), attached_at: now() })
      .where("id", "in", ids)
      .where("state", "<>", "ended")
      .execute(),
  );
}

/** The client's connection broke: it has a short time to come back. */
export async function shortenLease(db: Database, id: SessionId): Promise<void> {
  await db
    .updateTable("sessions")
    .set({ lease_expires_at: sql<Date>`least(lease_expires_at, ${nowPlus(TIMES.brokenHoldLeaseMs)})` })
    .where("id", "=", id)
    .where("state", "<>", "ended")
    // Its broker is started again, and its programs do not need it meanwhile.
    .where("purpose", "<>", "service")
    .execute();
}

/** After a restart nobody could have renewed anything: every lease begins anew, and so does every server's silence. */
export async function grantFreshPeriod(db: Database): Promise<void> {
  await db
    .updateTable("sessions")
    .set({ lease_expires_at: leaseEnd(), attached_at: now() })
    .where("state", "<>", "ended")
    .execute();
  await db
    .updateTable("servers")
    .set({ last_seen_at: nowPlus(-TIMES.serverSilentMs) })
    .where("last_seen_at", "<", nowPlus(-TIMES.serverSilentMs))
    .where("id", "in", (eb) =>
      eb
        .selectFrom("sessions")
        .leftJoin("session_servers", heldParts)
        .select(placeOf.as("server_id"))
        .where("state", "in", ["granted", "active"]),
    )
    .execute();
}

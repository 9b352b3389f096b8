import { FarpoolError, formatDuration, type Session, type SessionId } from "@farpool/contract";
import { limitTime, resolvePolicies } from "@farpool/policies";
import { announce } from "../database/changes.ts";
import { inPlacement, type Database } from "../database/connect.ts";
import { recordAudit } from "../identity/audit.ts";
import { readClientNames, readPoliciesOf } from "../policies/store.ts";
import { subjectOfSession } from "../policies/subject.ts";
import { placesOf } from "./places.ts";
import { readSession } from "./read.ts";

/** Moves the end of the maximum duration, as far as the policies of now allow. */
export function extendSession(db: Database, id: SessionId, byMs: number): Promise<Session> {
  // Placement reckons with when sessions end.
  return inPlacement(db, async (tx) => {
    const session = await readSession(tx, id);
    const { state, clientKey, maxDurationMs } = session;
    if (state === "ended") throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
    if (maxDurationMs === null)
      throw new FarpoolError("FARPOOL_CONFLICT", `the session ${id} has no maximum duration`, {
        hint: "it needs no extension",
      });
    const subject = await subjectOfSession(tx, id);
    const policy = resolvePolicies(await readPoliciesOf(tx, subject), subject);
    const total = maxDurationMs + byMs;
    limitTime({ policy, names: await readClientNames(tx, subject.client) }, "maxDurationMs", total);
    await tx
      .updateTable("sessions")
      .set((eb) => ({
        max_duration_ms: total,
        duration_warned_at: null,
        revision: eb("revision", "+", 1),
      }))
      .where("id", "=", id)
      .execute();
    const reason = `extended by ${formatDuration(byMs)}, to ${formatDuration(total)}`;
    await recordAudit(tx, { kind: "session-extended", sessionId: id, clientKey, reason });
    await announce(tx, `session/${id}`);
    const servers = placesOf(session);
    if (servers.length > 0) {
      // They would end it by themselves.
      await tx
        .updateTable("servers")
        .set((eb) => ({ desired_revision: eb("desired_revision", "+", 1) }))
        .where("id", "in", servers)
        .execute();
      for (const server of servers) await announce(tx, `server/${server}`);
    }
    return readSession(tx, id);
  });
}

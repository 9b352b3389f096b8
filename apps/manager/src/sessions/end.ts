import { formatDuration, type EndReason, type Session, type SessionId } from "@farpool/contract";
import { announce } from "../database/changes.ts";
import { inPlacement, now, type Database, type Tx } from "../database/connect.ts";
import { chargeFairShare } from "../placement/fair-share.ts";
import { bumpDesired, runPlacementPass } from "../placement/pass.ts";
import { recordEvent } from "./events.ts";
import { readSession } from "./read.ts";

export interface Ending {
  readonly reason: EndReason;
  readonly message: string | null;
}

export function endSession(db: Database, id: SessionId, ending: Ending): Promise<Session> {
  return inPlacement(db, async (tx) => {
    const session = await readSession(tx, id);
    if (session.state === "ended") return session;
    await endInPlacement(tx, session, ending);
    await runPlacementPass(tx);
    return readSession(tx, id);
  });
}

/**
 * Ends a living session. Its GPUs stay taken until the server reports that its workers are gone; a
 * session that never had any is released at once.
 */
export async function endInPlacement(tx: Tx, session: Session, ending: Ending): Promise<void> {
  const revision = session.serverId === null ? null : await bumpDesired(tx, session.serverId);
  await tx
    .updateTable("sessions")
    .set((eb) => ({
      state: "ended",
      ended_at: now(),
      end_reason: ending.reason,
      end_message: ending.message,
      ended_at_revision: revision,
      released_at: revision === null ? now() : null,
      queue_position: null,
      waits_for: null,
      estimated_at: null,
      reserved_server_id: null,
      revision: eb("revision", "+", 1),
    }))
    .where("id", "=", session.id)
    .execute();
  if (session.grantedAt !== null) await chargeFairShare(tx, session.id);
  await recordEvent(tx, { id: session.id, state: "ended", reason: describe(session, ending) });
  await announce(tx, `session/${session.id}`);
}

/** The GPUs of an ended session are free for others. */
export async function releaseInPlacement(tx: Tx, id: SessionId): Promise<void> {
  await tx
    .updateTable("session_gpus")
    .set({ released_at: now() })
    .where("session_id", "=", id)
    .where("released_at", "is", null)
    .execute();
  await tx
    .updateTable("sessions")
    .set((eb) => ({ released_at: now(), revision: eb("revision", "+", 1) }))
    .where("id", "=", id)
    .execute();
  await tx
    .updateTable("processes")
    .set({ ended_at: now() })
    .where("session_id", "=", id)
    .where("ended_at", "is", null)
    .execute();
  await announce(tx, `session/${id}`);
}

function describe(session: Session, { reason, message }: Ending): string {
  const text = message ?? reason.replaceAll("-", " ");
  return session.grantedAt === null ? text : `${text}; held ${formatDuration(session.usage.heldMs)}`;
}

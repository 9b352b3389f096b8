import { formatDuration, type EndReason, type Session, type SessionId } from "@farpool/contract";
import { sql } from "kysely";
import { CHANNEL } from "../database/changes.ts";
import { inPlacement, type Database, type Tx } from "../database/connect.ts";
import { chargeFairShare } from "../placement/fair-share.ts";
import { runPlacementPass } from "../placement/pass.ts";
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
 * Ends a living session, in one statement. Its GPUs stay taken until the server reports that its workers are gone; a
 * session that never had any is released at once.
 */
export async function endInPlacement(tx: Tx, session: Session, ending: Ending): Promise<void> {
  const { id, serverId } = session;
  await sql`
    with wanted as (
      update servers set desired_revision = desired_revision + 1 where id = ${serverId}::uuid
      returning id, desired_revision
    ), ended as (
      update sessions set state = 'ended', ended_at = clock_timestamp(), end_reason = ${ending.reason},
        end_message = ${ending.message}, ended_at_revision = (select desired_revision from wanted),
        released_at = case when ${serverId}::uuid is null then clock_timestamp() end,
        queue_position = null, waits_for = null, estimated_at = null, reserved_server_id = null,
        revision = revision + 1
      where id = ${id} returning *
    ), charged as (${chargeFairShare(sql`ended`)}), told as (
      insert into session_events (session_id, state, reason)
      select id, 'ended', ${describe(session, ending)} from ended
    )
    select pg_notify(${CHANNEL}, 'session/' || id) from ended
    union all select pg_notify(${CHANNEL}, 'server/' || id) from wanted`.execute(tx);
}

/** The GPUs of ended sessions are free for others. */
export async function releaseInPlacement(tx: Tx, ids: readonly SessionId[]): Promise<void> {
  if (ids.length === 0) return;
  await sql`
    with given as (
      update session_gpus set released_at = clock_timestamp()
      where session_id = any(${ids}) and released_at is null
    ), released as (
      update sessions set released_at = clock_timestamp(), revision = revision + 1
      where id = any(${ids}) returning id
    ), over as (
      update processes set ended_at = clock_timestamp() where session_id = any(${ids}) and ended_at is null
    )
    select pg_notify(${CHANNEL}, 'session/' || id) from released`.execute(tx);
}

function describe(session: Session, { reason, message }: Ending): string {
  const text = message ?? reason.replaceAll("-", " ");
  return session.grantedAt === null ? text : `${text}; held ${formatDuration(session.usage.heldMs)}`;
}

import {
  formatDuration,
  type EndReason,
  type ServerId,
  type Session,
  type SessionId,
} from "@farpool/contract";
import { sql } from "kysely";
import { CHANNEL } from "../database/changes.ts";
import { inPlacement, type Database, type Tx } from "../database/connect.ts";
import { chargeFairShare } from "../placement/fair-share.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { placesOf } from "./places.ts";
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
 * Ends a living session, in one statement. Its GPUs stay taken until their server reports that its workers are gone; a
 * session that never had any is released at once.
 */
export async function endInPlacement(tx: Tx, session: Session, ending: Ending): Promise<void> {
  const { id, serverId } = session;
  await sql`
    with wanted as (
      update servers set desired_revision = desired_revision + 1 where id = any(${placesOf(session)}::uuid[])
      returning id, desired_revision
    ), parted as (
      update session_servers set ended_at_revision = desired_revision
      from wanted where session_id = ${id} and server_id = wanted.id
    ), ended as (
      update sessions set state = 'ended', ended_at = clock_timestamp(), end_reason = ${ending.reason},
        end_message = ${ending.message}, ended_at_revision = (select desired_revision from wanted where id = ${serverId}::uuid),
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

/** An ended session of which a server holds nothing any more. */
export interface Released {
  readonly id: SessionId;
  readonly serverId: ServerId;
}

/** The GPUs that ended sessions had there are free for others; a session is released when all its servers have let go. */
export async function releaseInPlacement(tx: Tx, all: readonly Released[]): Promise<void> {
  if (all.length === 0) return;
  await sql`
    with gone as (
      select * from unnest(${all.map(({ id }) => id)}::text[], ${all.map(({ serverId }) => serverId)}::uuid[])
        as gone(session_id, server_id)
    ), parted as (
      update session_servers part set released_at = clock_timestamp()
      from gone where part.session_id = gone.session_id and part.server_id = gone.server_id and released_at is null
    ), done as (
      select distinct session_id as id from gone where not exists (
        select from session_servers part where part.session_id = gone.session_id and part.released_at is null
          and (part.session_id, part.server_id) not in (select session_id, server_id from gone))
    ), given as (
      update session_gpus held set released_at = clock_timestamp()
      where held.session_id in (select session_id from gone) and released_at is null
        and (held.session_id in (select id from done) or exists (
          select from gone join gpus on gpus.server_id = gone.server_id
           where gone.session_id = held.session_id and gpus.uuid = held.gpu_uuid))
    ), released as (
      update sessions set revision = revision + 1,
        released_at = case when id in (select id from done) then clock_timestamp() end
      where id in (select session_id from gone) returning id
    ), over as (
      update processes set ended_at = clock_timestamp()
      where session_id in (select session_id from gone) and ended_at is null
        and (session_id in (select id from done)
          or (session_id, server_id) in (select session_id, server_id from gone))
    )
    select pg_notify(${CHANNEL}, 'session/' || id) from released`.execute(tx);
}

function describe(session: Session, { reason, message }: Ending): string {
  const text = message ?? reason.replaceAll("-", " ");
  return session.grantedAt === null ? text : `${text}; held ${formatDuration(session.usage.heldMs)}`;
}

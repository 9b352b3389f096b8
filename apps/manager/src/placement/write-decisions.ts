import { formatGpus, type ServerId, type SessionId } from "@farpool/contract";
import { toPart, type Explanation, type Grant, type PlacedServer, type PoolIndex } from "@farpool/domain";
import { sql } from "kysely";
import { CHANNEL } from "../database/changes.ts";
import type { Tx } from "../database/connect.ts";

export interface QueueChange extends Explanation {
  readonly reservedOn: ServerId | null;
  /** It was not in the queue before. */
  readonly isNew: boolean;
}

interface Decisions {
  readonly grants: readonly Grant[];
  /** Of those that wait on: whose place, reason or estimate has changed. */
  readonly news: readonly QueueChange[];
  readonly index: PoolIndex;
}

/** One statement for all that a pass has decided: sessions, their GPUs, their servers' sets, events, and the word to all. */
export async function writeDecisions(tx: Tx, { grants, news, index }: Decisions): Promise<void> {
  if (grants.length === 0 && news.length === 0) return;
  const sessions = grants.map((grant) => describe(grant, index));
  const gpus = grants.flatMap(({ session, placement }) =>
    placement.servers
      .flatMap((server) => server.gpus)
      .map((gpu, ordinal) => ({ id: session.id, ordinal, uuid: gpu.uuid, limit: gpu.memoryLimitBytes })),
  );
  const parts = grants.flatMap(({ session, placement: { servers } }) =>
    servers.length === 1
      ? []
      : servers.map(({ serverId }, position) => ({ id: session.id, server: serverId, position })),
  );
  const entries = news.map(({ id, position, waitsFor, estimateMs, reservedOn, isNew }) => ({
    ...{ id, position, reason: waitsFor, reserved: reservedOn, fresh: isNew },
    estimate: estimateMs === null ? null : new Date(estimateMs).toISOString(),
  }));
  await sql`
    with granted as (
      select * from jsonb_to_recordset(${JSON.stringify(sessions)}::jsonb)
        as g(id text, server uuid, gpus float8, reason text)
    ), changed as (
      update sessions set state = 'granted', server_id = granted.server, granted_at = clock_timestamp(),
        granted_gpus = granted.gpus, queue_position = null, waits_for = null, estimated_at = null,
        reserved_server_id = null, revision = revision + 1
      from granted where sessions.id = granted.id returning sessions.id
    ), placed as (
      insert into session_gpus (session_id, ordinal, gpu_uuid, memory_limit_bytes)
      select id, ordinal, uuid, "limit" from jsonb_to_recordset(${JSON.stringify(gpus)}::jsonb)
        as p(id text, ordinal integer, uuid text, "limit" bigint)
    ), parts as (
      select * from jsonb_to_recordset(${JSON.stringify(parts)}::jsonb)
        as p(id text, server uuid, position integer)
    ), parted as (
      insert into session_servers (session_id, server_id, position) select id, server, position from parts
    ), wanted as (
      update servers set desired_revision = desired_revision + 1
      where id in (select server from granted union select server from parts) returning id
    ), entries as (
      select * from jsonb_to_recordset(${JSON.stringify(entries)}::jsonb)
        as e(id text, position integer, reason text, estimate timestamptz, reserved uuid, fresh boolean)
    ), moved as (
      update sessions set state = 'queued', queue_position = entries.position, waits_for = entries.reason,
        estimated_at = entries.estimate, reserved_server_id = entries.reserved, revision = revision + 1
      from entries where sessions.id = entries.id returning sessions.id
    ), told as (
      insert into session_events (session_id, state, reason)
      select id, 'granted', reason from granted
      union all
      select id, 'queued', 'position ' || position || ', waits for ' || reason from entries where fresh
    )
    select pg_notify(${CHANNEL}, 'session/' || id) from changed
    union all select pg_notify(${CHANNEL}, 'server/' || id) from wanted
    union all select pg_notify(${CHANNEL}, 'session/' || id) from moved`.execute(tx);
}

function describe(
  { session, placement }: Grant,
  index: PoolIndex,
): { readonly id: SessionId; readonly server: ServerId; readonly gpus: number; readonly reason: string } {
  const [first] = placement.servers;
  if (first === undefined) throw new Error(`session ${session.id} was placed on no server`);
  return {
    id: session.id,
    server: first.serverId,
    gpus: index.shareOf(placement),
    reason: placement.servers.map((server) => describePart(server, index)).join(" and "),
  };
}

function describePart({ serverId, gpus }: PlacedServer, index: PoolIndex): string {
  const parts = gpus.flatMap(({ uuid, memoryLimitBytes }) => {
    const gpu = index.gpus[index.gpuIndex(uuid) ?? -1];
    return gpu === undefined ? [] : [toPart(gpu, memoryLimitBytes)];
  });
  const name = index.servers[index.serverIndex(serverId) ?? -1]?.name ?? serverId;
  return `${formatGpus(parts)} on ${name}`;
}

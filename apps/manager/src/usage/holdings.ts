import type { GpuUuid, ServerId, SessionId } from "@farpool/contract";
import type { HeldGpu, Holding } from "@farpool/usage";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import { attributionColumns, projectOfSession, userOfSession, type Attribution } from "./attribution.ts";

export interface SessionGpu extends HeldGpu {
  readonly ordinal: number;
  readonly uuid: GpuUuid;
  readonly serverId: ServerId;
  readonly serverName: string;
}

/** A session that has or had GPUs, and of which there will be more records. */
export interface HeldSession extends Attribution {
  readonly id: SessionId;
  readonly name: string | null;
  readonly program: string | null;
  readonly gpus: readonly SessionGpu[];
  readonly holding: Holding;
  /** Its workers are gone: what they counted is all there will be. */
  readonly isReleased: boolean;
  /** Up to here it is certain that all its servers served. */
  readonly heardMs: number;
}

/** Moments are dates, or texts where the row was JSON. */
type Moment = Date | string;

export interface HeldSessionRow extends Attribution {
  id: SessionId;
  name: string | null;
  program: string | null;
  granted_at: Moment;
  active_at: Moment | null;
  ended_at: Moment | null;
  released_at: Moment | null;
  settled_until: Moment | null;
  gpus: Array<{
    ordinal: number;
    uuid: GpuUuid;
    model: string;
    limit: number | null;
    total: number;
    serverId: ServerId;
    serverName: string;
  }>;
  heard: number | null;
  outages: Array<{ from: number; to: number; reason: string }> | null;
}

interface Page {
  readonly after: SessionId | null;
  readonly limit: number;
  /** Only those of which records are due: the last day end that has passed, and now. */
  readonly due?: { readonly dayAt: Date; readonly now: Date };
  /** Only those of these users or projects. */
  readonly of?: { readonly users: readonly string[]; readonly projects: readonly string[] };
}

/**
 * Sessions whose usage is not all told yet: at most `limit` of those after `after`. The moments are those of the event log:
 * a session's columns and its events are written by the same statements, and events are what counts where they differ.
 */
export async function readHeldSessions(db: Database, page: Page): Promise<HeldSession[]> {
  const { rows } = await heldSessions(page).execute(db);
  return rows.map(toHeldSession);
}

/** The same as a part of another statement, which may answer it as JSON. */
export function heldSessions(page: Page): RawBuilder<HeldSessionRow> {
  return sql<HeldSessionRow>`
    select session.id, session.name, session.client_program as program,
           coalesce(log.granted, session.granted_at) as granted_at,
           coalesce(log.active, session.active_at) as active_at, coalesce(log.ended, session.ended_at) as ended_at,
           session.released_at, session.usage_settled_until as settled_until, ${attributionColumns()},
           gpu.list as gpus, gpu.heard, outage.list as outages
      from sessions session
      left join lateral (
        select min(at) filter (where state = 'granted') as granted, min(at) filter (where state = 'active') as active,
               max(at) filter (where state = 'ended') as ended
          from session_events where session_id = session.id) log on true
      join lateral (
        select jsonb_agg(jsonb_build_object('ordinal', held.ordinal, 'uuid', gpus.uuid, 'model', gpus.name,
                 'limit', held.memory_limit_bytes, 'total', gpus.memory_total_bytes, 'serverId', servers.id,
                 'serverName', servers.name) order by held.ordinal) as list,
               min(extract(epoch from servers.heard_at)) * 1000 as heard
          from session_gpus held join gpus on gpus.uuid = held.gpu_uuid join servers on servers.id = gpus.server_id
         where held.session_id = session.id) gpu
        on gpu.list is not null
      left join lateral (
        select jsonb_agg(jsonb_build_object('from', extract(epoch from from_at) * 1000,
                 'to', extract(epoch from to_at) * 1000, 'reason', reason)) as list
          from outages
         where (session_id = session.id or session_id is null)
           and to_at > session.granted_at and (session.ended_at is null or from_at < session.ended_at)) outage on true
     where session.usage_open and session.granted_at is not null
       ${page.due === undefined ? sql`` : isDue(page.due)}
       ${page.of === undefined ? sql`` : isOf(page.of)}
       and (${page.after}::text is null or session.id > ${page.after})
     order by session.id
     limit ${page.limit}`;
}

/** Over, and its workers are gone; or a day end or a price change of one of its models has passed since it was settled. */
function isDue({ dayAt, now }: NonNullable<Page["due"]>): RawBuilder<unknown> {
  const settled = sql`coalesce(session.usage_settled_until, session.granted_at)`;
  return sql`and (session.released_at is not null or ${settled} < ${dayAt} or exists (
    select from (select model, from_at as at from prices union all select model, to_at from prices) change
     where change.at > ${settled} and change.at <= ${now}
       and (change.model is null or change.model in (
         select gpus.name from session_gpus held join gpus on gpus.uuid = held.gpu_uuid
          where held.session_id = session.id))))`;
}

function isOf({ users, projects }: NonNullable<Page["of"]>): RawBuilder<unknown> {
  return sql`and (${userOfSession()} = any(${users}::text[]) or ${projectOfSession()} = any(${projects}::text[]))`;
}

export function toHeldSession(row: HeldSessionRow): HeldSession {
  const gpus = row.gpus.map(({ limit, total, ...gpu }): SessionGpu => ({
    ...gpu,
    share: { part: limit ?? total, whole: total },
  }));
  return {
    id: row.id,
    name: row.name,
    program: row.program,
    user_name: row.user_name,
    user_source: row.user_source,
    account: row.account,
    client: row.client,
    project: row.project,
    labels: row.labels,
    gpus,
    isReleased: row.released_at !== null,
    heardMs: row.heard === null ? Number.NEGATIVE_INFINITY : Number(row.heard),
    holding: {
      models: [...new Set(gpus.map(({ model }) => model))],
      grantedMs: msOf(row.granted_at),
      activeMs: row.active_at === null ? null : msOf(row.active_at),
      endedMs: row.ended_at === null ? null : msOf(row.ended_at),
      settledMs: row.settled_until === null ? null : msOf(row.settled_until),
      outages: (row.outages ?? []).map(({ from, to, reason }) => ({
        fromMs: Math.round(from),
        toMs: Math.round(to),
        reason,
      })),
    },
  };
}

const msOf = (moment: Moment): number => new Date(moment).getTime();

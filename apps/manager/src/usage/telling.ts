import type { ConnectionId, GpuUuid, ServerId, SessionId } from "@farpool/contract";
import { apportion, busyPerSegment, segmentsOf, type BusySample, type Interval } from "@farpool/usage";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import type { HeldSession } from "./holdings.ts";
import type { PoolTariff } from "./tariff.ts";

/** What its worker counted beyond what records tell. */
export interface UntoldProcess extends Interval {
  readonly connectionId: ConnectionId;
  /** Where its worker ran. */
  readonly serverId: ServerId;
  readonly program: string | null;
  readonly busyMs: number;
  readonly samples: readonly BusySample[];
}

interface Sums extends Interval {
  readonly heldMs: number;
  readonly chargedMs: number;
  readonly busyMs: number;
  readonly cost: number;
}

export interface ToldGpu extends Sums {
  readonly ordinal: number;
  readonly gpuUuid: GpuUuid;
  readonly model: string;
  readonly serverId: ServerId;
  readonly serverName: string;
  readonly pricePerHour: number | null;
  readonly note: string | null;
}

export interface ToldProcess extends Sums {
  readonly connectionId: ConnectionId | null;
  readonly program: string | null;
}

export interface Telling {
  readonly gpus: readonly ToldGpu[];
  readonly processes: readonly ToldProcess[];
}

/**
 * What is to be told of a session up to a moment: per GPU, and the same sums per process. GPUs are held by sessions and not
 * by processes, so held time is spread over the processes as they were busy.
 */
export function tell(
  session: HeldSession,
  processes: readonly UntoldProcess[],
  {
    tariff,
    untilMs,
    isOver,
  }: { readonly tariff: PoolTariff; readonly untilMs: number; readonly isOver: boolean },
): Telling {
  const options = { zone: tariff.timeZone, prices: tariff.prices, untilMs };
  const perGpu = session.gpus.map((gpu) => ({ gpu, segments: segmentsOf(gpu, session.holding, options) }));
  // All GPUs of a session are cut at the same moments.
  const spans = perGpu[0]?.segments ?? [];
  const busy = processes.map((process) => busyPerSegment(spans, process, isOver));
  const gpus: ToldGpu[] = [];
  const told: ToldProcess[] = [];
  spans.forEach((span, index) => {
    const busyOf = busy.map((segments) => segments[index] ?? 0);
    const busyOfGpus = busyPerGpu(
      session.gpus,
      processes.map(({ serverId }, place) => ({ serverId, busyMs: busyOf[place] ?? 0 })),
    );
    const here = perGpu.flatMap(({ gpu, segments }, place): ToldGpu[] => {
      const segment = segments[index];
      if (segment === undefined) return [];
      const { share: _, uuid, ...rest } = gpu;
      const { outage, ...numbers } = segment;
      return [{ ...rest, ...numbers, gpuUuid: uuid, busyMs: busyOfGpus[place] ?? 0, note: outage }];
    });
    gpus.push(...here);
    told.push(...spread(span, here, { session, processes, busyOf }));
  });
  return { gpus, processes: told };
}

interface Located {
  readonly serverId: ServerId;
}

/** Workers count busy time per process and not per GPU, so it is spread evenly over the GPUs that their server gave. */
export function busyPerGpu(
  gpus: readonly Located[],
  processes: ReadonlyArray<Located & { readonly busyMs: number }>,
): readonly number[] {
  const busy = gpus.map(() => 0);
  for (const [serverId, workers] of Map.groupBy(processes, (process) => process.serverId)) {
    const own = gpus.flatMap((gpu, place) => (gpu.serverId === serverId ? [place] : []));
    // A GPU may have been moved to another server meanwhile.
    const places = own.length > 0 ? own : [...gpus.keys()];
    const total = workers.reduce((sum, { busyMs }) => sum + busyMs, 0);
    const parts = apportion(
      total,
      places.map(() => 1),
    );
    for (const [index, place] of places.entries()) busy[place] = (busy[place] ?? 0) + (parts[index] ?? 0);
  }
  return busy;
}

interface Spreading {
  readonly session: HeldSession;
  readonly processes: readonly UntoldProcess[];
  readonly busyOf: readonly number[];
}

function spread(
  { fromMs, toMs }: Interval,
  gpus: readonly ToldGpu[],
  { session, processes, busyOf }: Spreading,
): readonly ToldProcess[] {
  const sum = (field: "heldMs" | "chargedMs" | "cost"): number =>
    gpus.reduce((total, gpu) => total + gpu[field], 0);
  const active = processes.flatMap((process, index) => {
    const busyMs = busyOf[index] ?? 0;
    return busyMs > 0 ? [{ process, busyMs }] : [];
  });
  if (active.length === 0) {
    const idle = { connectionId: null, program: session.program, busyMs: 0 };
    return [{ ...idle, fromMs, toMs, heldMs: sum("heldMs"), chargedMs: sum("chargedMs"), cost: sum("cost") }];
  }
  const weights = active.map(({ busyMs }) => busyMs);
  const [held, charged, cost] = [sum("heldMs"), sum("chargedMs"), sum("cost")].map((total) =>
    apportion(total, weights),
  );
  return active.map(({ process, busyMs }, index) => ({
    connectionId: process.connectionId,
    program: process.program ?? session.program,
    fromMs,
    toMs,
    busyMs,
    heldMs: held?.[index] ?? 0,
    chargedMs: charged?.[index] ?? 0,
    cost: cost?.[index] ?? 0,
  }));
}

interface ProcessRow {
  session_id: SessionId;
  connection_id: ConnectionId;
  server_id: ServerId;
  program: string | null;
  started_at: Date;
  ended_at: Date | null;
  busy_ms: number;
  samples: Array<{ at: number; busyMs: number }> | null;
}

/** Processes of these sessions whose counters say more than records do. */
export async function readUntold(
  db: Database,
  ids: readonly SessionId[],
): Promise<ReadonlyMap<SessionId, readonly UntoldProcess[]>> {
  const untold = new Map<SessionId, UntoldProcess[]>();
  if (ids.length === 0) return untold;
  const { rows } = await sql<ProcessRow>`
    select process.session_id, process.connection_id, process.server_id, process.program, process.started_at, process.ended_at,
           round((process.report->>'busyMs')::numeric)::bigint - coalesce(told.busy_ms, 0) as busy_ms, sampled.list as samples
      from processes process
      left join lateral (
        select sum(busy_ms)::bigint as busy_ms from usage_process_records
         where session_id = process.session_id and connection_id = process.connection_id) told on true
      left join lateral (
        select jsonb_agg(jsonb_build_object('at', extract(epoch from sample.at) * 1000, 'busyMs', sample.busy_ms)) as list
          from usage_samples sample join sessions on sessions.id = sample.session_id
         where sample.session_id = process.session_id and sample.connection_id = process.connection_id
           and sample.busy_ms > 0
           and sample.at >= coalesce(sessions.usage_settled_until, sessions.granted_at) - interval '1 hour') sampled on true
     where process.session_id = any(${ids}::text[])
       and (process.report->>'busyMs')::numeric > coalesce(told.busy_ms, 0)`.execute(db);
  for (const row of rows) {
    const list = untold.get(row.session_id) ?? [];
    untold.set(row.session_id, list);
    list.push({
      connectionId: row.connection_id,
      serverId: row.server_id,
      program: row.program,
      fromMs: row.started_at.getTime(),
      toMs: row.ended_at?.getTime() ?? Number.MAX_SAFE_INTEGER,
      busyMs: Number(row.busy_ms),
      samples: (row.samples ?? []).map(({ at, busyMs }) => ({ atMs: Math.round(at), busyMs })),
    });
  }
  return untold;
}

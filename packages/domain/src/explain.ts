import { formatRequest, type SessionId } from "@farpool/contract";
import { limitOn, shareOf } from "./capacity.ts";
import { Heap } from "./heap.ts";
import type { Outlook } from "./openings.ts";
import { gpusOf } from "./order.ts";
import { countEver, fitsEver, place } from "./placement.ts";
import type { PoolIndex } from "./pool-index.ts";
import type { PassResult, Queued } from "./queue.ts";
import { mayBeSpread, shapeOf, type WaitingSession } from "./wish.ts";

/** Looking at every GPU for a wish takes a millisecond in a large pool: so many kinds of wishes get that in a pass. */
const MOST_SHAPES = 16;

/** What a waiting session is told. */
export interface Explanation {
  readonly id: SessionId;
  readonly position: number;
  readonly waitsFor: string;
  /** When it will probably be granted; null: nobody knows. */
  readonly estimateMs: number | null;
}

/** Why each session of the queue has nothing yet, and when it will probably have it. */
export function explain(result: PassResult): readonly Explanation[] {
  const flow = createFlow(result.outlook);
  const shapes = new Map<string, ShapeView>();
  return result.queue.map((queued) => {
    const { session, position } = queued;
    const shape = shapeOf(session);
    let view = shapes.get(shape);
    if (view === undefined && shapes.size < MOST_SHAPES) {
      view = viewOf(session, result.outlook);
      shapes.set(shape, view);
    }
    return {
      id: session.id,
      position,
      waitsFor: waitsFor(queued, view, result),
      estimateMs: estimate(queued, view, { flow, nowMs: result.outlook.nowMs }),
    };
  });
}

/** What is the same for all who wish the same. */
interface ShapeView {
  /** When one of them could be granted if it were alone; undefined: no server that answers has that. */
  readonly aloneMs: number | null | undefined;
  /** It would be granted, were nothing kept for others. */
  readonly isOnlyKept: boolean;
  /** The server with the most GPUs of that kind free now. */
  readonly best: { readonly name: string; readonly free: number } | undefined;
}

function viewOf(session: WaitingSession, outlook: Outlook): ShapeView {
  const { index } = outlook;
  return {
    aloneMs: outlook.earliestMs(session),
    isOnlyKept: place(session, index) !== undefined,
    best: session.count === 1 ? undefined : mostFree(session, index),
  };
}

function mostFree(session: WaitingSession, index: PoolIndex): ShapeView["best"] {
  const { size } = session;
  const mask = index.maskOf(session);
  let best: ShapeView["best"];
  for (const [place, server] of index.servers.entries()) {
    if (!server.accepts) continue;
    let free = 0;
    for (let gpu = index.firstGpu[place] ?? 0; gpu < (index.firstGpu[place + 1] ?? 0); gpu += 1) {
      const capacity = index.gpus[gpu];
      if (capacity === undefined || (mask !== null && mask[gpu] !== 1)) continue;
      const limit = limitOn(capacity, size);
      if (limit === undefined) continue;
      if (limit === null ? index.isUnused[gpu] === 1 : (index.free[gpu] ?? 0) >= limit) free += 1;
    }
    if (free > (best?.free ?? 0)) best = { name: server.name, free };
  }
  return best;
}

function waitsFor(
  { session, position, reservation }: Queued,
  view: ShapeView | undefined,
  { reservations, outlook: { index } }: PassResult,
): string {
  const what = formatRequest(session.count, session.size);
  if (view !== undefined && view.aloneMs === undefined) return nobodyHas(session, index);
  if (reservation !== null) {
    const server = index.servers.find(({ id }) => id === reservation.serverId);
    return server === undefined
      ? `${what} to become free, which are kept for it`
      : `${what} to become free on ${server.name}, kept for it`;
  }
  const after = position === 1 ? "" : `, after ${position - 1} before it`;
  if (view?.isOnlyKept === true && reservations.length > 0) {
    const [first] = reservations;
    return `${what}: what is free is kept for ${first?.sessionId ?? "others"}, which has waited longer`;
  }
  const { best } = view ?? {};
  if (best !== undefined && !mayBeSpread(session) && best.free < session.count) {
    return `${what} on one server: most are free on ${best.name}, ${best.free}${after}`;
  }
  return position === 1 ? `${what} to become free` : `${what}${after}`;
}

function nobodyHas(session: WaitingSession, index: PoolIndex): string {
  const least = mayBeSpread(session) ? 1 : session.count;
  const owners = index.servers.filter((server) => countEver(session, server) >= least);
  const what = formatRequest(session.count, session.size);
  if (!fitsEver(session, index.servers)) return `${what}: no server of the pool has that now`;
  const closed = owners.flatMap(({ closedBecause }) => closedBecause ?? []);
  if (closed.length > 0) return `${what}: ${closed.join("; ")}`;
  const [only] = owners;
  return owners.length === 1
    ? `${what}: the server ${only?.name ?? "?"} does not answer`
    : `${what}: the servers that have it do not answer`;
}

interface Flow {
  /** When so many GPUs more will have been given back; null: nobody knows. */
  take(session: WaitingSession): number | null;
}

function estimate(
  { session, reservation }: Queued,
  view: ShapeView | undefined,
  { flow, nowMs }: { readonly flow: Flow; readonly nowMs: number },
): number | null {
  const inTurn = flow.take(session);
  if (view !== undefined && view.aloneMs === undefined) return null;
  const alone = reservation === null ? view?.aloneMs : reservation.expectedMs;
  if (inTurn === null || alone === null) return null;
  return Math.max(nowMs, inTurn, alone ?? nowMs);
}

/**
 * The queue as a flow: GPUs come back when sessions are expected to end, each session takes what it needs of them
 * in its turn, and gives it back after what sessions usually take. Where on which server is not looked at.
 */
function createFlow(outlook: Outlook): Flow {
  const { index, lengths, nowMs } = outlook;
  const returns: Return[] = [];
  let free = 0;
  for (const [gpu, { totalBytes }] of index.gpus.entries()) {
    if (index.servers[index.serverOf[gpu] ?? -1]?.accepts !== true) continue;
    free += (index.free[gpu] ?? 0) / totalBytes;
    for (const occupant of index.occupants[gpu] ?? []) {
      const atMs = outlook.endsAt(occupant, gpu);
      if (atMs !== Infinity) returns.push({ atMs, gpus: shareOf(totalBytes, occupant.limitBytes) });
    }
  }
  const ends = new Heap<Return>((a, b) => a.atMs < b.atMs, returns);
  let clockMs = nowMs;
  return {
    take(session) {
      const gpus = gpusOf(session);
      while (free < gpus) {
        const next = ends.pop();
        if (next === undefined) return null;
        clockMs = Math.max(clockMs, next.atMs);
        free += next.gpus;
      }
      free -= gpus;
      const lengthMs = lengths.expectedMs(session.maxDurationMs);
      if (lengthMs !== null) ends.push({ atMs: clockMs + lengthMs, gpus });
      return clockMs;
    },
  };
}

/** GPUs that are given back. */
interface Return {
  readonly atMs: number;
  readonly gpus: number;
}

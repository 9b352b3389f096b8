import type { ServerId, SessionId } from "@farpool/contract";
import { limitOn } from "./capacity.ts";
import { knownEndMs, type PastLengths } from "./lengths.ts";
import type { Occupant, PoolIndex } from "./pool-index.ts";
import type { WaitingSession, Wish } from "./wish.ts";

/** GPUs that are kept free for one session, until all of them are. */
export interface Reservation {
  readonly sessionId: SessionId;
  /** The server that it will get, where it is one. */
  readonly serverId: ServerId | null;
  readonly gpus: readonly number[];
  /** When all who are on them will be gone at the latest; null: somebody has not said. */
  readonly knownMs: number | null;
  /** When they will probably be free; null: nobody knows. */
  readonly expectedMs: number | null;
}

interface Opening {
  readonly gpu: number;
  readonly expectedMs: number;
  readonly knownMs: number;
}

export interface ReservationContext {
  readonly index: PoolIndex;
  readonly lengths: PastLengths;
  readonly nowMs: number;
  /** GPUs that are kept already; Infinity where they are not. */
  readonly until: Float64Array;
}

/** Where a session that finds no room will find it first. Once it has a server kept for it, that stays so. */
export function reserve(session: WaitingSession, context: ReservationContext): Reservation | undefined {
  const found = firstOpening(session, context);
  return found === undefined ? undefined : toReservation(session, found, context);
}

/** When a wish could be granted if nobody were before it; null: nobody knows, undefined: no server has that. */
export function earliestMs(wish: Wish, context: ReservationContext): number | null | undefined {
  const found = firstOpening(wish, context);
  return found === undefined ? undefined : finite(latest(found, "expectedMs"));
}

function firstOpening(
  wish: Wish & Pick<Partial<WaitingSession>, "reservedOn">,
  context: ReservationContext,
): readonly Opening[] | undefined {
  const { index } = context;
  if (wish.spreadServers === true) {
    return fewest(
      index.servers.flatMap((_, server) => openingsOf(server, wish, context)),
      wish.count,
    );
  }
  const before =
    wish.reservedOn === null || wish.reservedOn === undefined
      ? undefined
      : index.serverIndex(wish.reservedOn);
  const again = before === undefined ? undefined : fewest(openingsOf(before, wish, context), wish.count);
  if (again !== undefined) return again;
  let best: { openings: readonly Opening[]; atMs: number; free: number } | undefined;
  for (let server = 0; server < index.servers.length; server += 1) {
    const openings = fewest(openingsOf(server, wish, context), wish.count);
    if (openings === undefined) continue;
    const atMs = latest(openings, "expectedMs");
    const free = openings.filter(({ expectedMs }) => expectedMs <= context.nowMs).length;
    // Where no end is known, the server that lacks the fewest.
    if (best === undefined || atMs < best.atMs || (atMs === best.atMs && free > best.free))
      best = { openings, atMs, free };
  }
  return best?.openings;
}

function openingsOf(server: number, wish: Wish, context: ReservationContext): Opening[] {
  const { index, until } = context;
  if (index.servers[server]?.accepts !== true) return [];
  const mask = index.maskOf(wish.filters ?? []);
  const openings: Opening[] = [];
  for (let gpu = index.firstGpu[server] ?? 0; gpu < (index.firstGpu[server + 1] ?? 0); gpu += 1) {
    if ((mask !== null && mask[gpu] !== 1) || until[gpu] !== Infinity) continue;
    const capacity = index.gpus[gpu];
    const limit = capacity === undefined ? undefined : limitOn(capacity, wish.size);
    if (limit !== undefined) openings.push({ gpu, ...opensAt(gpu, limit, context) });
  }
  return openings;
}

/** When so many of those who are on a GPU are gone that there is room. */
function opensAt(
  gpu: number,
  limit: number | null,
  context: ReservationContext,
): { expectedMs: number; knownMs: number } {
  const { index, nowMs } = context;
  const there = index.occupants[gpu] ?? [];
  if (limit === null) {
    const ends = there.map((occupant) => endOf(occupant, context));
    return {
      expectedMs: Math.max(nowMs, ...ends.map(({ expectedMs }) => expectedMs)),
      knownMs: Math.max(nowMs, ...ends.map(({ knownMs }) => knownMs)),
    };
  }
  const opens = (kind: "expectedMs" | "knownMs"): number => {
    let free = index.free[gpu] ?? 0;
    if (free >= limit) return nowMs;
    const ends = there
      .map((occupant) => ({ atMs: endOf(occupant, context)[kind], bytes: occupant.limitBytes ?? Infinity }))
      .sort((a, b) => a.atMs - b.atMs);
    for (const { atMs, bytes } of ends) {
      free += bytes;
      if (free >= limit) return Math.max(nowMs, atMs);
    }
    return Infinity;
  };
  return { expectedMs: opens("expectedMs"), knownMs: opens("knownMs") };
}

function endOf(
  { session }: Occupant,
  { lengths, nowMs }: ReservationContext,
): { expectedMs: number; knownMs: number } {
  // Its session has ended: its workers are going.
  if (session === null) return { expectedMs: nowMs, knownMs: nowMs };
  return {
    expectedMs: lengths.expectedEndMs(session, nowMs) ?? Infinity,
    knownMs: knownEndMs(session) ?? Infinity,
  };
}

/** The `count` GPUs that are free first. */
function fewest(openings: Opening[], count: number): readonly Opening[] | undefined {
  if (openings.length < count) return undefined;
  // Infinity minus Infinity is no number.
  const order = (a: number, b: number): number => (a === b ? 0 : a - b);
  return openings.sort((a, b) => order(a.expectedMs, b.expectedMs) || a.gpu - b.gpu).slice(0, count);
}

function toReservation(
  session: WaitingSession,
  openings: readonly Opening[],
  { index }: ReservationContext,
): Reservation {
  const gpus = openings.map(({ gpu }) => gpu);
  const servers = new Set(gpus.map((gpu) => index.serverOf[gpu]));
  const [only] = servers;
  return {
    sessionId: session.id,
    serverId: servers.size === 1 ? (index.servers[only ?? -1]?.id ?? null) : null,
    gpus,
    knownMs: finite(latest(openings, "knownMs")),
    expectedMs: finite(latest(openings, "expectedMs")),
  };
}

function latest(openings: readonly Opening[], kind: "expectedMs" | "knownMs"): number {
  return openings.reduce((most, opening) => Math.max(most, opening[kind]), 0);
}

function finite(ms: number): number | null {
  return Number.isFinite(ms) ? ms : null;
}

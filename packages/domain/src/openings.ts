import { limitOn } from "./capacity.ts";
import { knownEndMs, type PastLengths } from "./lengths.ts";
import type { Occupant, PoolIndex } from "./pool-index.ts";
import type { Wish } from "./wish.ts";

/** A GPU, and when there will be room for a wish on it. */
export interface Opening {
  readonly gpu: number;
  /** Probably; Infinity: nobody knows. */
  readonly expectedMs: number;
  /** At the latest; Infinity: somebody has not said. */
  readonly knownMs: number;
}

export interface OpeningContext {
  readonly index: PoolIndex;
  readonly lengths: PastLengths;
  readonly nowMs: number;
  /** GPUs that are kept for others; Infinity where they are not. */
  readonly until: Float64Array;
}

/** When a wish could be granted if nobody were before it; null: nobody knows, undefined: no server has that. */
export function earliestMs(wish: Wish, context: OpeningContext): number | null | undefined {
  const { index } = context;
  let earliest: number | undefined;
  if (wish.spreadServers === true) {
    const openings = openingsAnywhere(wish, context);
    earliest = openings === undefined ? undefined : latest(openings, "expectedMs");
  } else {
    for (let server = 0; server < index.servers.length; server += 1) {
      const openings = openingsOn(server, wish, context);
      if (openings !== undefined) earliest = Math.min(earliest ?? Infinity, latest(openings, "expectedMs"));
    }
  }
  return earliest === undefined ? undefined : finite(earliest);
}

/** The GPUs of a server that will be free first, as many as are wished for; undefined: it has fewer. */
export function openingsOn(
  server: number,
  wish: Wish,
  context: OpeningContext,
): readonly Opening[] | undefined {
  const { firstGpu } = context.index;
  const most = (firstGpu[server + 1] ?? 0) - (firstGpu[server] ?? 0);
  return most < wish.count ? undefined : fewest(openingsOf(server, wish, context), wish.count);
}

export function openingsAnywhere(wish: Wish, context: OpeningContext): readonly Opening[] | undefined {
  const all = context.index.servers.flatMap((_, server) => openingsOf(server, wish, context));
  return fewest(all, wish.count);
}

export function latest(openings: readonly Opening[], kind: "expectedMs" | "knownMs"): number {
  return openings.reduce((most, opening) => Math.max(most, opening[kind]), 0);
}

export function finite(ms: number): number | null {
  return Number.isFinite(ms) ? ms : null;
}

function openingsOf(server: number, wish: Wish, context: OpeningContext): Opening[] {
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
  context: OpeningContext,
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
  { lengths, nowMs }: OpeningContext,
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

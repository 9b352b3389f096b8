import type { Size } from "@farpool/contract";
import { limitOn } from "./capacity.ts";
import { knownEndMs, type PastLengths } from "./lengths.ts";
import type { Occupant, PoolIndex } from "./pool-index.ts";
import { mayBeSpread, type Wish } from "./wish.ts";

/** A GPU, and when there will be room for a wish on it. */
export interface Opening {
  readonly gpu: number;
  /** Probably; Infinity: nobody knows. */
  readonly expectedMs: number;
  /** At the latest; Infinity: somebody has not said. */
  readonly knownMs: number;
}

type Kind = "expectedMs" | "knownMs";

/** When the GPUs of a pool come free. What is looked at often is worked out once, at the first look. */
export class Outlook {
  readonly index: PoolIndex;
  readonly lengths: PastLengths;
  readonly nowMs: number;
  /** GPUs that are kept for somebody; Infinity where they are not. */
  readonly until: Float64Array;
  /** When everybody on a GPU will be gone; NaN: not worked out yet. */
  private readonly emptyMs: Readonly<Record<Kind, Float64Array>>;
  private readonly times: number[] = [];

  constructor({ index, lengths, nowMs }: Pick<Outlook, "index" | "lengths" | "nowMs">) {
    this.index = index;
    this.lengths = lengths;
    this.nowMs = nowMs;
    const count = index.gpus.length;
    this.until = new Float64Array(count).fill(Infinity);
    this.emptyMs = {
      expectedMs: new Float64Array(count).fill(Number.NaN),
      knownMs: new Float64Array(count).fill(Number.NaN),
    };
  }

  /** Somebody has come to these GPUs. */
  forget(gpus: Iterable<number>): void {
    for (const gpu of gpus) {
      this.emptyMs.expectedMs[gpu] = Number.NaN;
      this.emptyMs.knownMs[gpu] = Number.NaN;
    }
  }

  /** When a wish could be granted if nobody were before it; null: nobody knows, undefined: no server has that. */
  earliestMs(wish: Wish): number | null | undefined {
    let earliest: number | undefined;
    if (mayBeSpread(wish)) {
      const openings = this.allOpenings(wish, false);
      earliest = openings.length < wish.count ? undefined : openings[wish.count - 1]?.expectedMs;
    } else {
      for (let server = 0; server < this.index.servers.length; server += 1) {
        const atMs = this.earliestOn(server, wish, false);
        if (atMs !== undefined && atMs < (earliest ?? Infinity)) earliest = atMs;
        else if (atMs !== undefined) earliest ??= atMs;
        if (earliest !== undefined && earliest <= this.nowMs) break;
      }
    }
    return earliest === undefined ? undefined : finite(earliest);
  }

  /** When a server will probably have room; undefined: it has not so many such GPUs that nobody keeps. */
  earliestOn(server: number, wish: Wish, respectsKept = true): number | undefined {
    const { times } = this;
    times.length = 0;
    for (const gpu of this.suitable(server, wish, respectsKept)) {
      const limit = this.limitOf(gpu, wish.size);
      if (limit === undefined) continue;
      insert(times, this.opensAt(gpu, limit, "expectedMs"), wish.count);
    }
    return times.length < wish.count ? undefined : times[wish.count - 1];
  }

  /** The GPUs of a server that will be free first, as many as are wished for. */
  openingsOn(server: number, wish: Wish): readonly Opening[] | undefined {
    return fewest(this.openingsOf(server, wish), wish.count);
  }

  /** The GPUs of all servers, those first that will be free first. */
  allOpenings(wish: Wish, respectsKept = true): readonly Opening[] {
    const all = this.index.servers.flatMap((_, server) => this.openingsOf(server, wish, respectsKept));
    return all.sort(byTime);
  }

  /** Whether a GPU will still be free then, as far as is known by now: somebody may have come to it. */
  holds({ gpu, expectedMs }: Opening, wish: Wish): boolean {
    const limit = this.limitOf(gpu, wish.size);
    const isKept = this.until[gpu] !== Infinity;
    return !isKept && limit !== undefined && this.opensAt(gpu, limit, "expectedMs") <= expectedMs;
  }

  /** When somebody will probably leave a GPU; Infinity: nobody knows. */
  endsAt(occupant: Occupant, gpu: number): number {
    const isAlone = this.index.occupants[gpu]?.length === 1;
    return isAlone ? this.opensAt(gpu, null, "expectedMs") : this.endOf(occupant, "expectedMs");
  }

  private openingsOf(server: number, wish: Wish, respectsKept = true): Opening[] {
    return this.suitable(server, wish, respectsKept).flatMap((gpu) => {
      const limit = this.limitOf(gpu, wish.size);
      if (limit === undefined) return [];
      const opens = (kind: Kind): number => this.opensAt(gpu, limit, kind);
      return [{ gpu, expectedMs: opens("expectedMs"), knownMs: opens("knownMs") }];
    });
  }

  private suitable(server: number, wish: Wish, respectsKept: boolean): readonly number[] {
    const { index, until } = this;
    if (index.servers[server]?.accepts !== true) return [];
    const gpus = index.gpusOfServer[server] ?? [];
    const mask = index.maskOf(wish);
    if (mask === null && !respectsKept) return gpus;
    return gpus.filter(
      (gpu) => (mask === null || mask[gpu] === 1) && (!respectsKept || until[gpu] === Infinity),
    );
  }

  private limitOf(gpu: number, size: Size): number | null | undefined {
    const capacity = this.index.gpus[gpu];
    return capacity === undefined ? undefined : limitOn(capacity, size);
  }

  /** When so many of those who are on a GPU are gone that there is room. */
  private opensAt(gpu: number, limit: number | null, kind: Kind): number {
    const { index, nowMs } = this;
    const there = index.occupants[gpu] ?? [];
    if (limit === null) {
      let atMs = this.emptyMs[kind][gpu] ?? Number.NaN;
      if (Number.isNaN(atMs)) {
        atMs = nowMs;
        for (const occupant of there) atMs = Math.max(atMs, this.endOf(occupant, kind));
        this.emptyMs[kind][gpu] = atMs;
      }
      return atMs;
    }
    let free = index.free[gpu] ?? 0;
    if (free >= limit) return nowMs;
    const ends = there
      .map((occupant) => ({ atMs: this.endOf(occupant, kind), bytes: occupant.limitBytes ?? Infinity }))
      .sort((a, b) => compare(a.atMs, b.atMs));
    for (const { atMs, bytes } of ends) {
      free += bytes;
      if (free >= limit) return Math.max(nowMs, atMs);
    }
    return Infinity;
  }

  private endOf({ session }: Occupant, kind: Kind): number {
    // Its session has ended: its workers are going.
    if (session === null) return this.nowMs;
    const atMs = kind === "knownMs" ? knownEndMs(session) : this.lengths.expectedEndMs(session, this.nowMs);
    return atMs ?? Infinity;
  }
}

export function latest(openings: readonly Opening[], kind: Kind): number {
  return openings.reduce((most, opening) => Math.max(most, opening[kind]), 0);
}

export function finite(ms: number): number | null {
  return Number.isFinite(ms) ? ms : null;
}

/** The `count` GPUs that are free first. */
function fewest(openings: Opening[], count: number): readonly Opening[] | undefined {
  if (openings.length < count) return undefined;
  return openings.sort(byTime).slice(0, count);
}

function byTime(a: Opening, b: Opening): number {
  return compare(a.expectedMs, b.expectedMs) || a.gpu - b.gpu;
}

/** Keeps the smallest few in order. */
function insert(sorted: number[], value: number, most: number): void {
  if (sorted.length === most && value >= (sorted[most - 1] ?? Infinity)) return;
  if (sorted.length === most) sorted.pop();
  let place = sorted.length;
  while (place > 0 && (sorted[place - 1] ?? 0) > value) {
    sorted[place] = sorted[place - 1] ?? 0;
    place -= 1;
  }
  sorted[place] = value;
}

/** Infinity minus Infinity is no number. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

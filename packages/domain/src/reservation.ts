import type { ServerId, SessionId } from "@farpool/contract";
import { Heap } from "./heap.ts";
import { finite, latest, type Opening, type Outlook } from "./openings.ts";
import { mayBeSpread, MOST_SERVERS, shapeOf, type WaitingSession } from "./wish.ts";

/** GPUs that are kept free for one session, until all of them are. */
export interface Reservation {
  readonly sessionId: SessionId;
  /** The server that it will get, where it is one. */
  readonly serverId: ServerId | null;
  /** Where the first of them are: who keeps GPUs anywhere is first in the next pass, too. */
  readonly keptOn: ServerId | null;
  readonly gpus: readonly number[];
  /** When all who are on them will be gone at the latest; null: somebody has not said. */
  readonly knownMs: number | null;
  /** When they will probably be free; null: nobody knows. */
  readonly expectedMs: number | null;
}

/** Looking at every GPU for a kind of wish takes a millisecond in a large pool. */
const MOST_SEARCHES = 4;

/** So many times as long as elsewhere it may take, where something has come together already. */
const PATIENCE = 4;
/** What is gained by less is not worth what would be lost. */
const SHORT_MS = 300_000;

/** Where one kind of wish will find room. */
interface Prospects {
  /** When GPUs come free that one session has by itself: nothing has to be kept for them to come together. */
  readonly units: Heap<number>;
  /** Servers on which they come free one by one, the earliest first. */
  readonly mixed: Heap<Prospect>;
}

interface Prospect {
  readonly server: number;
  readonly atMs: number;
  /** So many are free already. */
  readonly free: number;
}

/**
 * Decides for whom GPUs are kept, and which. A session whose turn comes sooner by waiting for GPUs that come free
 * together needs none kept; else they are collected on the server where that will take the shortest.
 */
export class Reserver {
  private readonly outlook: Outlook;
  private readonly prospects = new Map<string, Prospects>();
  /** For each kind of wish that may be spread all GPUs, those first that will be free first, and where those that are left begin. */
  private readonly anywhere = new Map<string, { readonly openings: readonly Opening[]; next: number }>();
  /** Servers on which GPUs were kept for somebody who found others: what has come together there is passed on. */
  private readonly collected: ServerId[] = [];

  constructor(outlook: Outlook) {
    this.outlook = outlook;
  }

  /** The session has got its GPUs, here or elsewhere. */
  passOn({ reservedOn }: WaitingSession): void {
    if (reservedOn !== null && reservedOn !== undefined) this.collected.push(reservedOn);
  }

  /** Undefined: nothing is to be kept for it. */
  reserve(session: WaitingSession): Reservation | undefined {
    const found = mayBeSpread(session) ? this.findAnywhere(session) : this.find(session);
    if (found === undefined) return undefined;
    const { index, until } = this.outlook;
    const gpus = found.map(({ gpu }) => gpu);
    const [server, ...others] = new Set(gpus.map((gpu) => index.serverOf[gpu]));
    if (others.length >= MOST_SERVERS) return undefined;
    const keptOn = index.servers[server ?? -1]?.id ?? null;
    const knownMs = finite(latest(found, "knownMs"));
    for (const gpu of gpus) until[gpu] = knownMs ?? -Infinity;
    return {
      sessionId: session.id,
      serverId: others.length > 0 ? null : keptOn,
      ...{ keptOn, gpus, knownMs },
      expectedMs: finite(latest(found, "expectedMs")),
    };
  }

  /** Those that will be free first, on whatever servers; undefined where they come free together anyway. */
  private findAnywhere(session: WaitingSession): readonly Opening[] | undefined {
    const shape = shapeOf(session);
    let known = this.anywhere.get(shape);
    if (known === undefined) {
      if (this.anywhere.size >= MOST_SEARCHES) return undefined;
      known = { openings: this.outlook.allOpenings(session), next: 0 };
      this.anywhere.set(shape, known);
    }
    const { openings } = known;
    const found: Opening[] = [];
    let at = known.next;
    for (; found.length < session.count && at < openings.length; at += 1) {
      const opening = openings[at];
      if (opening !== undefined && this.outlook.holds(opening, session)) found.push(opening);
    }
    const isEnough = found.length === session.count;
    if (isEnough && this.isUnit(found)) return undefined;
    // Whoever comes next finds what is left.
    known.next = at;
    return isEnough ? found : undefined;
  }

  private find(session: WaitingSession): readonly Opening[] | undefined {
    const { units, mixed } = this.prospectsOf(session) ?? {};
    const soonestMs = mixed?.first?.atMs ?? Infinity;
    const before =
      session.reservedOn === null || session.reservedOn === undefined ? [] : [session.reservedOn];
    for (const id of [...before, ...this.collected]) {
      const openings = this.openingsOn(this.outlook.index.serverIndex(id), session);
      if (openings !== undefined && !this.isUnit(openings) && this.isWorthwhile(openings, soonestMs))
        return openings;
    }
    const expectedMs = this.outlook.lengths.expectedMs(session.maxDurationMs) ?? Infinity;
    for (let next = mixed?.first; next !== undefined; next = mixed?.first) {
      const unitMs = units?.first;
      if (unitMs !== undefined && unitMs < next.atMs) {
        units?.pop();
        units?.push(unitMs + expectedMs);
        return undefined;
      }
      mixed?.pop();
      // Another kind of wish may have taken some of it.
      const openings = this.openingsOn(next.server, session);
      if (openings === undefined) continue;
      units?.push(next.atMs + expectedMs);
      return openings;
    }
    return undefined;
  }

  /** What has come together is given up where another server takes much less time: somebody stays long here. */
  private isWorthwhile(openings: readonly Opening[], soonestMs: number): boolean {
    const { nowMs } = this.outlook;
    return latest(openings, "expectedMs") - nowMs <= PATIENCE * Math.max(SHORT_MS, soonestMs - nowMs);
  }

  private openingsOn(server: number | undefined, session: WaitingSession): readonly Opening[] | undefined {
    return server === undefined ? undefined : this.outlook.openingsOn(server, session);
  }

  private prospectsOf(session: WaitingSession): Prospects | undefined {
    const shape = shapeOf(session);
    const known = this.prospects.get(shape);
    if (known !== undefined || this.prospects.size >= MOST_SEARCHES) return known;
    const prospects: Prospects = {
      units: new Heap((a, b) => a < b),
      mixed: new Heap((a, b) => a.atMs < b.atMs || (a.atMs === b.atMs && a.free > b.free)),
    };
    const { index } = this.outlook;
    for (let server = 0; server < index.servers.length; server += 1) {
      const atMs = this.outlook.earliestOn(server, session);
      if (atMs === undefined) continue;
      const free = index.unusedOnServer[server] ?? 0;
      if (free === 0 && this.comesTogether(server, session)) prospects.units.push(atMs);
      else prospects.mixed.push({ server, atMs, free });
    }
    this.prospects.set(shape, prospects);
    return prospects;
  }

  /** Whether one session has all that a wish would get of a server; usually a look at who is there tells. */
  private comesTogether(server: number, session: WaitingSession): boolean {
    const { index } = this.outlook;
    let [run, longest, areAllAlone] = [0, 0, true];
    let last: SessionId | undefined;
    for (const gpu of index.gpusOfServer[server] ?? []) {
      const [first, ...others] = index.occupants[gpu] ?? [];
      const id = others.length > 0 ? undefined : first?.session?.id;
      areAllAlone &&= id !== undefined;
      run = id === undefined ? 0 : id === last ? run + 1 : 1;
      last = id;
      longest = Math.max(longest, run);
    }
    if (longest < session.count) return false;
    if (session.count === 1 && areAllAlone) return true;
    const openings = this.openingsOn(server, session);
    return openings !== undefined && this.isUnit(openings);
  }

  /** Whether one session has all of them: they come free at once. */
  private isUnit(openings: readonly Opening[]): boolean {
    const { occupants } = this.outlook.index;
    const first = occupants[openings[0]?.gpu ?? -1]?.[0]?.session?.id;
    return (
      first !== undefined &&
      openings.every(({ gpu }) => {
        const there = occupants[gpu] ?? [];
        return there.length === 1 && there[0]?.session?.id === first;
      })
    );
  }
}

import type { Account } from "./fair-share.ts";
import type { PastLengths } from "./lengths.ts";
import { fairOrder } from "./order.ts";
import { Outlook } from "./openings.ts";
import { place } from "./placement.ts";
import type { PoolIndex } from "./pool-index.ts";
import { Reserver, type Reservation } from "./reservation.ts";
import type { SchedulingSettings } from "./settings.ts";
import { shapeOf, type Placement, type WaitingSession } from "./wish.ts";

/** What a pass knows. The index is changed: what is granted is taken. */
export interface PassInput {
  readonly nowMs: number;
  readonly waiting: readonly WaitingSession[];
  readonly index: PoolIndex;
  readonly accounts: (user: string) => Account;
  readonly lengths: PastLengths;
  readonly settings: SchedulingSettings;
}

export interface Grant {
  readonly session: WaitingSession;
  readonly placement: Placement;
}

/** The queue after a pass, first to last. */
export interface Queued {
  readonly session: WaitingSession;
  readonly position: number;
  readonly reservation: Reservation | null;
}

export interface PassResult {
  readonly grants: readonly Grant[];
  readonly queue: readonly Queued[];
  readonly reservations: readonly Reservation[];
  /** As it is after the grants. */
  readonly outlook: Outlook;
}

/**
 * One scheduling pass. Sessions are looked at in fair order and granted where there is room. The first that find
 * none and have waited long enough get GPUs kept for them: others are placed there only if they are known to be
 * gone in time (backfill).
 */
export function schedule({ nowMs, waiting, index, accounts, lengths, settings }: PassInput): PassResult {
  const grants: Grant[] = [];
  const queue: Queued[] = [];
  const reservations: Reservation[] = [];
  const outlook = new Outlook({ index, lengths, nowMs });
  const { until } = outlook;
  const failures = new Failures();
  const mostKept = Math.max(1, settings.keptShare * index.gpus.length);
  let keptGpus = 0;
  const reserver = new Reserver(outlook);
  const look = (session: WaitingSession): void => {
    const goneMs = session.maxDurationMs === null ? Infinity : nowMs + session.maxDurationMs;
    const isKept = reservations.length > 0;
    let placement: Placement | undefined;
    if (!failures.has(session, goneMs)) {
      placement = place(session, index, isKept ? { until, goneMs } : undefined);
      if (placement === undefined) failures.add(session, isKept ? goneMs : 0);
    }
    if (placement !== undefined) {
      reserver.passOn(session);
      grants.push({ session, placement });
      index.occupy({ id: session.id, grantedAtMs: nowMs, maxDurationMs: session.maxDurationMs, placement });
      outlook.forget(index.gpuIndexes(placement));
      return;
    }
    const mayReserve = keptGpus < mostKept && nowMs - session.requestedAtMs >= settings.reserveAfterMs;
    const reservation = mayReserve ? reserver.reserve(session) : undefined;
    if (reservation !== undefined) {
      reservations.push(reservation);
      keptGpus += reservation.gpus.length;
    }
    queue.push({ session, position: queue.length + 1, reservation: reservation ?? null });
  };
  // Whoever was first once stays first: what was collected for it would be lost to the next.
  const [collecting, others] = partition(waiting);
  for (const part of [collecting, others])
    for (const session of fairOrder({ nowMs, waiting: part, accounts, lengths, settings })) look(session);
  return { grants, queue, reservations, outlook };
}

/** Those for which GPUs are kept already, and the others. */
function partition(waiting: readonly WaitingSession[]): [WaitingSession[], WaitingSession[]] {
  const collecting: WaitingSession[] = [];
  const others: WaitingSession[] = [];
  for (const session of waiting) {
    const { reservedOn, isLast } = session;
    const isCollecting = reservedOn !== null && reservedOn !== undefined && isLast !== true;
    (isCollecting ? collecting : others).push(session);
  }
  return [collecting, others];
}

/**
 * What found no room in this pass: the pool only gets fuller meanwhile, so the same wish finds none either. With
 * GPUs kept for others that holds for those who stay as long, or longer.
 */
class Failures {
  private readonly shortest = new Map<string, number>();

  has(session: WaitingSession, goneMs: number): boolean {
    return goneMs >= (this.shortest.get(keyOf(session)) ?? Infinity) && this.shortest.has(keyOf(session));
  }

  add(session: WaitingSession, goneMs: number): void {
    this.shortest.set(keyOf(session), Math.min(goneMs, this.shortest.get(keyOf(session)) ?? Infinity));
  }
}

function keyOf(session: WaitingSession): string {
  return shapeOf(session);
}

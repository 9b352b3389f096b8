import { randomUUID } from "node:crypto";
import type { Refusal } from "@farpool/contract";
import { elapsedMs, type Clock } from "./clock.ts";
import type { RefusedEvent } from "./acceptor-protocol.ts";

/** So many are told at once; after that one a second. Whoever knocks without end must not fill the manager's table. */
const AT_ONCE = 100;
const REFILL_MS = 1_000;
/** How often it is told how many were not. */
const SUMMARY_MS = 60_000;

/** Connections that were turned away, until the manager has been told of them. */
export interface Refusals {
  add(event: RefusedEvent): void;
  /** What is to be told now. */
  pending(): readonly Refusal[];
  /** These have been told. */
  told(refusals: readonly Refusal[]): void;
}

export function createRefusals(clock: Clock): Refusals {
  const waiting: Refusal[] = [];
  let tokens = AT_ONCE;
  let refilledAt = clock.now();
  let uncounted = 0;
  let summaryAt = clock.now();

  function refill(): void {
    const fresh = Math.floor(elapsedMs(refilledAt, clock.now()) / REFILL_MS);
    if (fresh === 0) return;
    tokens = Math.min(AT_ONCE, tokens + fresh);
    refilledAt = clock.now();
  }

  return {
    add({ sessionId, connectionId, peer, reason, at }) {
      refill();
      if (tokens === 0 || waiting.length >= 2 * AT_ONCE) {
        uncounted += 1;
        return;
      }
      tokens -= 1;
      waiting.push({
        id: randomUUID(),
        at,
        sessionId: short(sessionId, 64),
        connectionId: short(connectionId, 64),
        peer: short(peer, 200),
        reason: reason.slice(0, 1_000),
      });
    },
    pending() {
      if (uncounted > 0 && elapsedMs(summaryAt, clock.now()) >= SUMMARY_MS) {
        const reason = `${uncounted} more connections were refused, too many to tell of each`;
        const at = new Date(clock.now().wallMs).toISOString();
        waiting.push({ id: randomUUID(), at, sessionId: null, connectionId: null, peer: null, reason });
        uncounted = 0;
        summaryAt = clock.now();
      }
      return waiting.slice();
    },
    told(refusals) {
      const ids = new Set(refusals.map(({ id }) => id));
      waiting.splice(0, waiting.length, ...waiting.filter(({ id }) => !ids.has(id)));
    },
  };
}

function short(text: string | null | undefined, most: number): string | null {
  return text === null || text === undefined ? null : text.slice(0, most);
}

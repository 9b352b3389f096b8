import type { Account } from "./fair-share.ts";
import { Heap } from "./heap.ts";
import type { PastLengths } from "./lengths.ts";
import type { SchedulingSettings } from "./settings.ts";
import type { WaitingSession } from "./wish.ts";

/** What a session counts for while nobody knows how long sessions take here. */
const UNKNOWN_LENGTH_MS = 600_000;

interface Line {
  readonly user: string;
  /** Its waiting sessions, the first one last. */
  readonly sessions: Ranked[];
  /** GPU-seconds that it has had, and those that what it holds will probably take. */
  load: number;
}

/** More than any priority. */
const BEHIND_ALL = 1_000_000;

interface Ranked {
  readonly session: WaitingSession;
  readonly rank: number;
}

export interface OrderInput {
  readonly nowMs: number;
  readonly waiting: readonly WaitingSession[];
  readonly accounts: (user: string) => Account;
  readonly lengths: PastLengths;
  readonly settings: SchedulingSettings;
}

/**
 * In which order sessions are looked at: those whose budget is spent after all others; by priority, which waiting raises; among equals the user who has had the
 * least; within a user who came first. Each session counts as granted for the next look, so users take turns.
 */
export function* fairOrder({
  nowMs,
  waiting,
  accounts,
  lengths,
  settings,
}: OrderInput): Generator<WaitingSession> {
  const horizonSeconds = (lengths.medianMs ?? UNKNOWN_LENGTH_MS) / 1_000;
  const lines = new Map<string, Line>();
  const ceiling = waiting.reduce((most, { priority }) => Math.max(most, priority), 0);
  for (const session of waiting) {
    const { user } = session;
    let line = lines.get(user);
    if (line === undefined) {
      const { usedGpuSeconds, heldGpus } = accounts(user);
      line = { user, sessions: [], load: usedGpuSeconds + heldGpus * horizonSeconds };
      lines.set(user, line);
    }
    line.sessions.push({ session, rank: rankOf(session, { nowMs, ceiling, agingMs: settings.agingMs }) });
  }
  const heap = new Heap<Line>(comesBefore);
  for (const line of lines.values()) {
    line.sessions.sort((a, b) => a.rank - b.rank || b.session.queueNumber - a.session.queueNumber);
    heap.push(line);
  }
  for (let line = heap.pop(); line !== undefined; line = heap.pop()) {
    const next = line.sessions.pop();
    if (next === undefined) continue;
    yield next.session;
    const expectedMs = lengths.expectedMs(next.session.maxDurationMs) ?? UNKNOWN_LENGTH_MS;
    line.load += (gpusOf(next.session) * expectedMs) / 1_000;
    if (line.sessions.length > 0) heap.push(line);
  }
}

/** How many GPUs a wish is, as far as that is known before it has any: an amount of memory counts as a whole one. */
export function gpusOf({ count, size }: Pick<WaitingSession, "count" | "size">): number {
  return size.kind === "share" ? count * size.share : count;
}

/**
 * Waiting raises a session as far as the highest priority that waits, and no further: among equals age does not
 * count, or whoever asks for the most would have the oldest and get the most.
 */
function rankOf(
  { priority, requestedAtMs, isLast = false }: WaitingSession,
  { nowMs, ceiling, agingMs }: { readonly nowMs: number; readonly ceiling: number; readonly agingMs: number },
): number {
  const rank = Math.min(ceiling, priority + Math.floor(Math.max(0, nowMs - requestedAtMs) / agingMs));
  return isLast ? rank - BEHIND_ALL : rank;
}

function comesBefore(a: Line, b: Line): boolean {
  const [first, second] = [a.sessions.at(-1), b.sessions.at(-1)];
  if (first === undefined || second === undefined) return first !== undefined;
  if (first.rank !== second.rank) return first.rank > second.rank;
  if (a.load !== b.load) return a.load < b.load;
  return first.session.queueNumber < second.session.queueNumber;
}

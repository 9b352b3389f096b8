import type { SessionId } from "@farpool/contract";
import {
  Accounts,
  explain,
  Heap,
  PastLengths,
  PoolIndex,
  schedule,
  type Placement,
  type SchedulingSettings,
} from "@farpool/domain";
import { createServers, createWorkload, type SimulatedSession, type WorkloadOptions } from "./workload.ts";

export interface SimulationOptions extends WorkloadOptions {
  readonly settings: SchedulingSettings;
  /** Passes are at least so far apart; in a pool each change makes one. */
  readonly passEveryMs: number;
  /** The queue is explained, as users are told, in every so many passes. */
  readonly explainEvery: number;
}

export interface Finished {
  readonly session: SimulatedSession;
  readonly grantedAtMs: number;
  readonly endedAtMs: number;
}

export interface Simulation {
  readonly finished: readonly Finished[];
  readonly passes: ReadonlyArray<{
    readonly atMs: number;
    readonly waiting: number;
    readonly heldGpus: number;
    /** Users that had waiting sessions after it. */
    readonly competing: readonly string[];
    readonly tookMs: number;
    readonly explainTookMs: number | null;
  }>;
  /** When the last session asked. */
  readonly lastArrivalMs: number;
}

/** The same functions as in the manager, on a clock of our own. */
export function simulate(options: SimulationOptions): Simulation {
  const sessions = createWorkload(options);
  const index = new PoolIndex(createServers(options));
  const accounts = new Accounts(options.settings.halfLifeMs);
  const lengths = new RecentLengths();
  const running = new Running();
  const finished: Finished[] = [];
  const passes: Array<Simulation["passes"][number]> = [];
  let waiting: SimulatedSession[] = [];
  let reservedOn = new Map<SessionId, SimulatedSession["reservedOn"]>();
  let next = 0;
  let nowMs = 0;
  let heldGpus = 0;
  while (finished.length < sessions.length) {
    nowMs = Math.max(
      nowMs + options.passEveryMs,
      Math.min(sessions[next]?.requestedAtMs ?? Infinity, running.firstEndMs),
    );
    for (let end = running.takeEnded(nowMs); end !== undefined; end = running.takeEnded(nowMs)) {
      const { session, placement, grantedAtMs, endedAtMs } = end;
      index.vacate(session.id, placement);
      accounts.hold(session.user, -session.count, nowMs);
      heldGpus -= session.count;
      lengths.add(endedAtMs - grantedAtMs);
      finished.push({ session, grantedAtMs, endedAtMs });
    }
    for (
      let session = sessions[next];
      session !== undefined && session.requestedAtMs <= nowMs;
      session = sessions[next]
    ) {
      waiting.push(session);
      next += 1;
    }
    const startedAt = performance.now();
    const result = schedule({
      nowMs,
      waiting: waiting.map((session) =>
        reservedOn.has(session.id) ? { ...session, reservedOn: reservedOn.get(session.id) ?? null } : session,
      ),
      index,
      accounts: (user) => accounts.at(user, nowMs),
      lengths: lengths.past(),
      settings: options.settings,
    });
    const tookMs = performance.now() - startedAt;
    let explainTookMs: number | null = null;
    if (passes.length % options.explainEvery === 0) {
      const explainedAt = performance.now();
      explain(result);
      explainTookMs = performance.now() - explainedAt;
    }
    const granted = new Map(result.grants.map(({ session, placement }) => [session.id, placement]));
    reservedOn = new Map(result.reservations.map(({ sessionId, keptOn }) => [sessionId, keptOn]));
    const left: SimulatedSession[] = [];
    for (const session of waiting) {
      const placement = granted.get(session.id);
      if (placement === undefined) {
        left.push(session);
        continue;
      }
      running.add({ session, placement, grantedAtMs: nowMs, endedAtMs: nowMs + session.lengthMs });
      accounts.hold(session.user, session.count, nowMs);
      heldGpus += session.count;
    }
    waiting = left;
    passes.push({
      ...{ atMs: nowMs, waiting: waiting.length, heldGpus, tookMs, explainTookMs },
      competing: [...new Set(waiting.map(({ user }) => user))],
    });
  }
  return { finished, passes, lastArrivalMs: sessions.at(-1)?.requestedAtMs ?? 0 };
}

interface RunningEntry {
  readonly session: SimulatedSession;
  readonly placement: Placement;
  readonly grantedAtMs: number;
  readonly endedAtMs: number;
}

/** Those that run, the next to end first. */
class Running {
  private readonly heap = new Heap<RunningEntry>((a, b) => a.endedAtMs < b.endedAtMs);

  get firstEndMs(): number {
    return this.heap.first?.endedAtMs ?? Infinity;
  }

  add(entry: RunningEntry): void {
    this.heap.push(entry);
  }

  takeEnded(nowMs: number): RunningEntry | undefined {
    return this.firstEndMs <= nowMs ? this.heap.pop() : undefined;
  }
}

/** As the manager remembers them: the last thousand. Sorted anew when a hundred have come. */
class RecentLengths {
  private readonly recent: number[] = [];
  private sorted = new PastLengths();
  private fresh = 0;

  add(lengthMs: number): void {
    this.recent.push(lengthMs);
    if (this.recent.length > 1_000) this.recent.shift();
    this.fresh += 1;
  }

  past(): PastLengths {
    if (this.fresh >= 100) {
      this.sorted = new PastLengths(this.recent);
      this.fresh = 0;
    }
    return this.sorted;
  }
}

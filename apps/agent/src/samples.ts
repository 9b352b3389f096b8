import type { ConnectionId, WorkerSample } from "@farpool/contract";
import type { AcceptorStatus } from "./acceptor-protocol.ts";
import type { Clock } from "./clock.ts";

export const SAMPLE_MS = 10_000;
/** As many as a report holds. */
const AT_ONCE = 10_000;
/** While the manager is away: some 24 hours of ten workers. The oldest go first; what workers count in all is kept by them. */
const MOST = 100_000;

/** How busy each worker was, 10 s after 10 s, until the manager has been told. */
export interface Samples {
  /** Looks at the workers' counters; to be called every 10 s. */
  take(status: AcceptorStatus): void;
  pending(): readonly WorkerSample[];
  told(samples: readonly WorkerSample[]): void;
}

export function createSamples(clock: Clock): Samples {
  let waiting: WorkerSample[] = [];
  let before = new Map<ConnectionId, number>();

  return {
    take(status) {
      const beganMs = Math.floor((clock.now().wallMs - SAMPLE_MS) / SAMPLE_MS) * SAMPLE_MS;
      const at = new Date(beganMs).toISOString();
      const now = new Map<ConnectionId, number>();
      for (const { id: sessionId, workers } of status.sessions) {
        for (const { connectionId, report, startedAt, endedAt } of workers) {
          const isOver = endedAt !== null && endedAt !== undefined;
          if (report === null || report === undefined || isOver) continue;
          const busyMs = Math.round(report.busyMs);
          now.set(connectionId, busyMs);
          // What one did before this agent was there is nobody's 10 s; but one that has just started began with nothing.
          const isNew = Date.parse(startedAt) >= beganMs;
          const knownMs = before.get(connectionId) ?? (isNew ? 0 : busyMs);
          const memoryUsedBytes = report.perGpu.reduce((sum, gpu) => sum + gpu.memoryUsedBytes, 0);
          waiting.push({
            sessionId,
            connectionId,
            at,
            busyMs: Math.max(0, busyMs - knownMs),
            memoryUsedBytes,
          });
        }
      }
      before = now;
      if (waiting.length > MOST) waiting = waiting.slice(-MOST);
    },
    pending: () => waiting.slice(0, AT_ONCE),
    told(samples) {
      const known = new Set(samples);
      waiting = waiting.filter((sample) => !known.has(sample));
    },
  };
}

import { TIMES, type DesiredState } from "@farpool/contract";
import type { BenchServer } from "./machines.ts";

/** After so long a report is repeated (`apps/agent/src/reconciler.ts`). */
const TELL_AGAIN_MS = 30_000;

export interface Agents {
  /** Heartbeats that were answered. */
  heartbeats(): number;
  /** The longest that one waited for its answer since the last time this was asked. */
  slowestMs(): number;
  stop(): Promise<void>;
}

/**
 * What agents say to the manager, as `apps/agent` does: a long poll for what is wanted, a report of what is open when that
 * has changed and now and then, and heartbeats at the usual interval. They obey at once: there is no acceptor behind them.
 */
export function startAgents(servers: readonly BenchServer[]): Agents {
  const stopping = new AbortController();
  const { signal } = stopping;
  let heartbeats = 0;
  let slowestMs = 0;
  const loops = servers.map(async ({ id, client }, number) => {
    const params = { serverId: id };
    let desired: DesiredState | undefined;
    // Spread, as those of machines are that were switched on at different times.
    let reportedAt = performance.now() - (number / servers.length) * TELL_AGAIN_MS;
    let isTold = false;
    const report = async (): Promise<void> => {
      if (desired === undefined) return;
      const openSessions = desired.sessions.map((session) => session.id);
      const body = { appliedRevision: desired.revision, openSessions, failures: [], workers: [] };
      await client.call("reportAgent", { params, body }, { signal, timeoutMs: 60_000 });
      isTold = true;
      reportedAt = performance.now();
    };
    const watch = async (): Promise<void> => {
      while (!signal.aborted) {
        const revision = desired?.revision ?? 0;
        const next = await client.call(
          "watchDesired",
          { params, query: { revision } },
          { signal, timeoutMs: 2 * TIMES.longPollMs },
        );
        const isNew = next.revision > revision;
        desired = next;
        if (!isNew) continue;
        isTold = false;
        await report();
      }
    };
    const beat = async (): Promise<void> => {
      await pause((number / servers.length) * TIMES.heartbeatMs, signal);
      while (!signal.aborted) {
        const startedAt = performance.now();
        const hasNothingNew = isTold && performance.now() - reportedAt < TELL_AGAIN_MS;
        const body = { inventory: null, acceptorReady: true, hasNothingNew };
        await client.call("heartbeatAgent", { params, body }, { signal, timeoutMs: 60_000 });
        const tookMs = performance.now() - startedAt;
        slowestMs = Math.max(slowestMs, tookMs);
        heartbeats += 1;
        if (!hasNothingNew) await report();
        await pause(TIMES.heartbeatMs - (performance.now() - startedAt), signal);
      }
    };
    await Promise.all([watch(), beat()]).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  });
  const all = Promise.all(loops);
  return {
    heartbeats: () => heartbeats,
    slowestMs() {
      const slowest = slowestMs;
      slowestMs = 0;
      return slowest;
    },
    async stop() {
      stopping.abort();
      await all;
    },
  };
}

export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, Math.max(0, ms));
    signal?.addEventListener(
      "abort",
      () => {
        clearTimeout(timer);
        resolve();
      },
      { once: true },
    );
  });
}

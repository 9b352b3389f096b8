import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "../machine.ts";
import { type Worker, gpuUsers, workersOf } from "./servers.ts";

/** Looks at what servers really run, all along. */
export interface Watch {
  readonly looks: () => number;
  /** How often more than one session had memory of one GPU, each of them a slice. */
  readonly shared: () => number;
  readonly violations: readonly string[];
  stop(): Promise<void>;
}

const PERIOD_MS = 100;

export function watchServers(servers: readonly Machine[]): Watch {
  const violations: string[] = [];
  const stopping = new AbortController();
  let looks = 0;
  let shared = 0;
  const loop = (async () => {
    while (!stopping.signal.aborted) {
      for (const server of servers) {
        looks += 1;
        const found = lookAt(server);
        shared += found.shared;
        violations.push(...found.violations);
      }
      await sleep(PERIOD_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  })();
  return {
    looks: () => looks,
    shared: () => shared,
    violations,
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}

function lookAt(server: Machine): { readonly shared: number; readonly violations: readonly string[] } {
  // First the workers: who has memory afterwards and was no worker yet is looked at the next time.
  const workers = new Map(workersOf(server).map((worker) => [worker.pid, worker]));
  const sessions = new Map<number, Map<string, Worker>>();
  for (const { pid, devices } of gpuUsers(server)) {
    const worker = workers.get(pid);
    if (worker === undefined) continue;
    for (const device of devices) {
      const there = sessions.get(device) ?? new Map<string, Worker>();
      sessions.set(device, there.set(worker.sessionId, worker));
    }
  }
  const violations: string[] = [];
  let shared = 0;
  for (const [device, there] of sessions) {
    if (there.size < 2) continue;
    const isWhole = ({ gpus }: Worker): boolean =>
      gpus.some(({ memoryLimitBytes }) => memoryLimitBytes === null || memoryLimitBytes === undefined);
    if ([...there.values()].some(isWhole))
      violations.push(`GPU ${device} of ${server.name} was used by ${JSON.stringify([...there.values()])}`);
    else shared += 1;
  }
  return { shared, violations };
}

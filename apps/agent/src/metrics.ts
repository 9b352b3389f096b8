import type { AgentReport, Inventory } from "@farpool/contract";
import { createRegistry, metricTable } from "@farpool/metrics";
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

/** What Prometheus is told of a server. GPUs are labelled by their index and UUID; nobody who uses them is. */
export interface AgentMetrics {
  readonly registry: Registry;
  acceptor(isConnected: boolean): void;
  /** A heartbeat that the manager answered after so long, or did not. */
  heartbeat(seconds: number | undefined): void;
  inventory(inventory: Inventory): void;
  inventoryFailed(): void;
  /** What the manager has been told. */
  reported(report: AgentReport): void;
}

export function createAgentMetrics(): AgentMetrics {
  const registry = createRegistry("agent");
  const registers = [registry];
  const gpuLabels = ["index", "uuid"] as const;
  const acceptor = new Gauge({
    name: "farpool_acceptor_up",
    help: "1 while the acceptor of this server answers",
    registers,
  });
  const manager = new Gauge({
    name: "farpool_manager_up",
    help: "1 when the manager answered the last heartbeat",
    registers,
  });
  const heartbeats = new Histogram({
    name: "farpool_heartbeat_seconds",
    help: "How long the manager took to answer heartbeats",
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
    registers,
  });
  const sessions = new Gauge({
    name: "farpool_server_sessions",
    help: "Sessions that are open at the acceptor",
    registers,
  });
  const workers = new Gauge({ name: "farpool_server_workers", help: "Workers that live", registers });
  const endedWorkers = new Counter({
    name: "farpool_server_workers_ended_total",
    help: "Workers that ended since this agent started",
    registers,
  });
  const refused = new Counter({
    name: "farpool_server_refusals_total",
    help: "Connections that acceptor and workers turned away since this agent started",
    registers,
  });
  const total = new Gauge({
    name: "farpool_gpu_memory_total_bytes",
    help: "Memory of each GPU",
    labelNames: gpuLabels,
    registers,
  });
  const used = new Gauge({
    name: "farpool_gpu_memory_used_bytes",
    help: "Memory of each GPU that anybody uses, as its driver told last",
    labelNames: gpuLabels,
    registers,
  });
  const failures = new Counter({
    name: "farpool_inventory_failures_total",
    help: "Times that the driver did not tell what GPUs there are",
    registers,
  });
  const countRefusals = countingOnce(refused);
  const countEnded = countingOnce(endedWorkers);

  return {
    registry,
    acceptor: (isConnected) => acceptor.set(isConnected ? 1 : 0),
    heartbeat(seconds) {
      manager.set(seconds === undefined ? 0 : 1);
      if (seconds !== undefined) heartbeats.observe(seconds);
    },
    inventory({ gpus }) {
      total.reset();
      used.reset();
      for (const { index, uuid, memoryTotalBytes, memoryUsedBytes } of gpus) {
        const labels = { index: String(index), uuid };
        total.set(labels, memoryTotalBytes);
        if (memoryUsedBytes !== null) used.set(labels, memoryUsedBytes);
      }
    },
    inventoryFailed: () => failures.inc(),
    reported({ openSessions, workers: all, refusals = [] }) {
      sessions.set(openSessions.length);
      const living = all.filter(({ worker }) => worker.endedAt === undefined || worker.endedAt === null);
      workers.set(living.length);
      countEnded(all.filter((each) => !living.includes(each)).map(({ worker }) => worker.connectionId));
      countRefusals(refusals.map(({ id }) => id));
    },
  };
}

export function agentMetricTable(): string {
  return metricTable(createAgentMetrics().registry);
}

/** How many ids are remembered: reports that are sent again come soon. */
const REMEMBERED = 10_000;

/** Counts each id once, however often it is reported. */
function countingOnce(counter: Counter): (ids: readonly string[]) => void {
  const known = new Set<string>();
  return (ids) => {
    for (const id of ids) {
      if (known.has(id)) continue;
      counter.inc();
      known.add(id);
      const [oldest] = known;
      if (known.size > REMEMBERED && oldest !== undefined) known.delete(oldest);
    }
  };
}

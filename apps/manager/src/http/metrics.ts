import { createRegistry, metricTable } from "@farpool/metrics";
import type { FastifyInstance } from "fastify";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Database } from "../database/connect.ts";
import { observeTimings } from "../database/timings.ts";
import { countEvents, readFigures } from "./pool-figures.ts";

/**
 * What Prometheus is told. No label names a user, a program, a session or a client: who may read metrics is not who may read
 * those. Figures of the pool come from the database at the time of the scrape, so every manager of a pool tells the same.
 */
export interface ManagerMetrics {
  readonly registry: Registry;
  /** Reads the pool's figures. */
  refresh(): Promise<void>;
  /** Measures the requests of this application. */
  observe(app: FastifyInstance): void;
  close(): void;
}

const FAST_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
/** Long polls wait for as long as nothing happens. */
const REQUEST_SECONDS = [...FAST_SECONDS, 10, 30];

/** All metrics of a manager in a registry, for those who fill them and for the page that lists them. */
export function defineManagerMetrics(registry: Registry) {
  const registers = [registry];
  const sessionEvents = new Counter({
    name: "farpool_session_events_total",
    help: "Changes of sessions in the whole pool since this manager started, by the state that they reached; 'granted' counts grants",
    labelNames: ["state"],
    registers,
  });
  const endedSessions = new Counter({
    name: "farpool_sessions_ended_total",
    help: "Sessions of the whole pool that ended since this manager started, by reason",
    labelNames: ["reason"],
    registers,
  });
  const sessions = gauge("farpool_sessions", "Sessions that live or wait, by state", ["state"]);
  const queueLength = gauge("farpool_queue_sessions", "Sessions that wait for GPUs");
  const queueGpus = gauge("farpool_queue_gpus", "GPUs for which sessions wait");
  const queueAge = gauge(
    "farpool_queue_oldest_seconds",
    "How long the session has waited that waits longest",
  );
  const servers = gauge("farpool_servers", "Servers, by state", ["state"]);
  const gpus = gauge(
    "farpool_gpus",
    "GPUs: free, shared by slices, held whole, or of servers that are not online",
    ["state"],
  );
  const memory = gauge("farpool_gpu_memory_bytes", "Memory of all GPUs, and how much of it sessions hold", [
    "kind",
  ]);
  const clients = gauge("farpool_clients", "Clients that are known, and those that were revoked", ["state"]);

  function gauge(name: string, help: string, labelNames: readonly string[] = []): Gauge {
    return new Gauge({ name, help, labelNames, registers });
  }

  const database = gauge("farpool_database_up", "1 when the database answered this scrape");
  const statements = new Histogram({
    name: "farpool_database_statement_seconds",
    help: "Time of SQL statements",
    buckets: FAST_SECONDS,
    registers,
  });
  const failures = new Counter({
    name: "farpool_database_failures_total",
    help: "SQL statements that failed",
    registers,
  });
  const passWait = new Histogram({
    name: "farpool_placement_wait_seconds",
    help: "How long a transaction that grants or ends sessions waited for its turn",
    buckets: FAST_SECONDS,
    registers,
  });
  const passWork = new Histogram({
    name: "farpool_placement_seconds",
    help: "How long such a transaction took then, the scheduling pass in it",
    buckets: FAST_SECONDS,
    registers,
  });
  const requests = new Histogram({
    name: "farpool_http_request_seconds",
    help: "Time of requests to the API, by route; long polls (…/watch, …/desired) wait for a change",
    labelNames: ["method", "route", "status"],
    buckets: REQUEST_SECONDS,
    registers,
  });
  const open = new Gauge({
    name: "farpool_http_requests_open",
    help: "Requests that are being answered",
    registers,
  });
  return {
    sessionEvents,
    endedSessions,
    sessions,
    queueLength,
    queueGpus,
    queueAge,
    servers,
    gpus,
    memory,
    clients,
    database,
    statements,
    failures,
    passWait,
    passWork,
    requests,
    open,
  };
}

export function managerMetricTable(): string {
  const registry = new Registry();
  defineManagerMetrics(registry);
  return metricTable(registry);
}

export function createManagerMetrics(db: Database): ManagerMetrics {
  const registry = createRegistry("manager");
  const metrics = defineManagerMetrics(registry);
  // Asked at the start: what happens before the first scrape counts.
  const events = countEvents(db);
  events.catch(() => undefined);

  async function refresh(): Promise<void> {
    try {
      const figures = await readFigures(db);
      fill(metrics.sessions, "state", figures.sessions);
      fill(metrics.servers, "state", figures.servers);
      fill(metrics.gpus, "state", figures.gpus);
      fill(metrics.memory, "kind", figures.memoryBytes);
      fill(metrics.clients, "state", figures.clients);
      metrics.queueLength.set(figures.queue.sessions);
      metrics.queueGpus.set(figures.queue.gpus);
      metrics.queueAge.set(figures.queue.oldestSeconds);
      for (const { state, reason, count } of await (await events).next()) {
        metrics.sessionEvents.inc({ state }, count);
        if (reason !== null) metrics.endedSessions.inc({ reason }, count);
      }
      metrics.database.set(1);
    } catch {
      // The figures are those of the last scrape; this one says so.
      metrics.database.set(0);
    }
  }

  const stop = observeTimings({
    statement(seconds, hasFailed) {
      metrics.statements.observe(seconds);
      if (hasFailed) metrics.failures.inc();
    },
    placement(waited, worked) {
      metrics.passWait.observe(waited);
      metrics.passWork.observe(worked);
    },
  });

  return {
    registry,
    refresh,
    observe(app) {
      app.addHook("onRequest", async (_, reply) => {
        metrics.open.inc();
        reply.raw.once("close", () => metrics.open.dec());
      });
      app.addHook("onResponse", async (request, reply) => {
        const labels = {
          method: request.method,
          // Not the path that was asked for: there are as many of those as anybody cares to send.
          route: request.routeOptions.url ?? "none",
          status: String(reply.statusCode),
        };
        metrics.requests.observe(labels, reply.elapsedTime / 1_000);
      });
    },
    close() {
      stop();
      registry.clear();
    },
  };
}

function fill(gauge: Gauge, label: string, figures: Readonly<Record<string, number>>): void {
  for (const [value, figure] of Object.entries(figures)) gauge.set({ [label]: value }, figure);
}

import { DEFAULT_DATA_PORT, DEFAULT_MANAGER_PORT, DEFAULT_METRICS_PORT, TIMES } from "@farpool/contract";
import { completed, defineCommand, flag, value, values } from "../core/command.ts";
import {
  durationAtMost,
  durationOrNone,
  graceSeconds,
  hostAndPort,
  indexList,
  serverLabel,
  wholeNumber,
} from "../core/parse-values.ts";

/** The simulated GPU names no more. */
const MOST_SIMULATED = 16;

const stateOption = completed(
  value("--state <folder>", "where the pool keeps its state (also: FARPOOL_STATE)", String),
  "folder",
);

/** What `up` and `server` have in common. */
export const serverOptions = {
  gpus: value("--gpus <indexes>", "offer these GPUs only, for example 0,2", indexList),
  listen: value("--listen <address>", "listen on this address (default: all of this machine's)", String),
  dataPort: value(
    "--data-port <port>",
    `port for data connections (default: ${DEFAULT_DATA_PORT}; 0: any)`,
    wholeNumber("--data-port", 0, 65_535),
  ),
  advertise: values(
    "--advertise <host:port>",
    "tell clients this address for data connections instead of --listen and --data-port; repeatable",
    hostAndPort("--advertise"),
  ),
  labels: values("--label <name=value>", "what this server is called by; repeatable", serverLabel),
  state: stateOption,
  driver: completed(value("--driver <file>", "the libcuda.so.1 that executes the calls", String), "file"),
  simulated: {
    ...value(
      "--simulated [count]",
      `offer simulated GPUs, ${MOST_SIMULATED} at most (default: 1)`,
      wholeNumber("--simulated", 1, MOST_SIMULATED),
    ),
    bare: "1",
  },
  metricsPort: {
    ...value(
      "--metrics-port [port]",
      `metrics of the agent for Prometheus on this port (default: ${DEFAULT_METRICS_PORT + 1}; 0: any)`,
      wholeNumber("--metrics-port", 0, 65_535),
    ),
    bare: String(DEFAULT_METRICS_PORT + 1),
  },
  isPlainTcp: flag("--plain-tcp", "data connections over TCP without TLS: for tests and measurements"),
  isBackground: flag("--background", "return when it is ready"),
} as const;

export const upCommand = defineCommand({
  name: "up",
  summary: "start a pool on this machine: manager, database, agent and acceptor",
  options: {
    ...serverOptions,
    listen: value("--listen <address>", "listen on this address (default: 127.0.0.1)", String),
    port: value(
      "--port <port>",
      `port of the manager (default: ${DEFAULT_MANAGER_PORT}; 0: any)`,
      wholeNumber("--port", 0, 65_535),
    ),
    graceSeconds: value(
      "--grace <time>",
      `how long a program may be without a connection (default: ${TIMES.graceMs / 1_000}s)`,
      graceSeconds,
    ),
    halfLifeMs: value(
      "--fair-share-half-life <time>",
      "after this time half of what users had is forgotten (default: 24h)",
      durationAtMost("--fair-share-half-life"),
    ),
    reserveAfterMs: value(
      "--reserve-after <time>",
      "GPUs are kept for the first in the queue after this time (default: 2m)",
      durationOrNone("--reserve-after"),
    ),
    metricsPort: {
      ...value(
        "--metrics-port [port]",
        `metrics for Prometheus: the manager's on this port (default: ${DEFAULT_METRICS_PORT}; 0: any), the agent's on the next`,
        wholeNumber("--metrics-port", 0, 65_534),
      ),
      bare: String(DEFAULT_METRICS_PORT),
    },
    database: value(
      "--database <url>",
      "use this PostgreSQL instead of the embedded one (also: FARPOOL_DATABASE)",
      String,
    ),
    isStop: flag("--stop", "stop the pool, as 'farpool down' does"),
  },
  run: async ({ options }) => (await import("../up/up.ts")).up(options),
});

export const downCommand = defineCommand({
  name: "down",
  summary: "stop the pool of this machine",
  options: { state: stateOption },
  run: async ({ options }) => (await import("../up/down.ts")).down(options.state),
});

/** Facts of the product that appear in more than one program. */

export const PRODUCT_NAME = "Farpool";
export const COMMAND_NAME = "farpool";
export const VERSION = "0.1.0";

/** Manager: API and agents. */
export const DEFAULT_MANAGER_PORT = 7443;
/** The name in every manager's certificate, and in no other one; no name server knows it. */
export const MANAGER_TLS_NAME = "manager.farpool.internal";
/** In every answer over HTTPS: the SHA-256 of the pool's newest authority. Who does not trust it renews its certificate. */
export const AUTHORITY_HEADER = "x-farpool-authority";
/** Server: all data connections. */
export const DEFAULT_DATA_PORT = 7445;

/** Prometheus metrics, off by default: the manager's; an agent's are on the next one. */
export const DEFAULT_METRICS_PORT = 9445;

/** The agreement between manager, agents and clients about times, in milliseconds. */
export const TIMES = {
  /** How often a client and an agent say that they are alive. */
  heartbeatMs: 2_000,
  /** How long a session lives on without a heartbeat: four may be lost. */
  leaseMs: 10_000,
  /** The same for the session of a client's service: as long as its programs wait for their connections to come back. */
  serviceLeaseMs: 120_000,
  /** What remains of the lease when the client's connection broke: enough to reconnect. */
  brokenHoldLeaseMs: 3_000,
  /** A server that is silent for so long gets no new sessions. */
  serverSilentMs: 6_000,
  /** A server that is silent for so long is given up, its sessions end. */
  serverLostMs: 60_000,
  /** How long a worker waits for its client when the connection broke. */
  graceMs: 120_000,
  /** The longest a long poll is held: below the idle limits of common proxies. */
  longPollMs: 25_000,
} as const;

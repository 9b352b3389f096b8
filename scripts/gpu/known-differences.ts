/** Errors of one scenario of error-parity: what was done and by which call. */
type Known = readonly string[];

/** The reason that holds on every GPU; all others hold on the simulated one. */
export const notRemoted = "the call is not remoted yet";

/** What may differ today, by scenario and reason. A line that has become equal is taken out of here. */
export const scenarios: Readonly<Record<string, Readonly<Record<string, Known>>>> = {
  "before-init": {},
  devices: {},
  "no-context": {},
  memory: {},
  "host-memory": {},
  pointers: {},
  "streams-and-events": {},
  handles: {},
  launches: {},
  modules: {},
  "out-of-memory": {},
  pools: {},
  capture: {},
  contexts: {},
  peers: {},
  runtime: {},
  "illegal-store": {},
  "illegal-load": {},
  "illegal-atomic": {},
  misaligned: {},
  assert: {},
  trap: {},
  "shared-out-of-range": {},
  "fault-in-own-context": {},
  "captures-of-several-streams": {},
  "graph-nodes": {},
  "graph-updates": {},
  "stream-ordered-memory": {},
  "more-of-events": {},
  "threads-own-streams": {},
  "late-errors": {},
};

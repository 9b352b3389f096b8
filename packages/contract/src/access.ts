import type { RouteName } from "./routes.ts";

/**
 * Who may send a request over the network. An administrator may send all; whoever comes over the manager's own
 * Unix socket is one.
 *
 * - `anyone`: before anybody has proved anything
 * - `server`: a machine that has joined as one, about itself
 * - `client`: a machine that has joined as one; where the path names a session, about its own
 * - `user`: a person who has signed in; where the path names a session, about her own
 */
export type AccessRole = "anyone" | "server" | "client" | "user";

const LOOKING = ["server", "client", "user"] as const;
const SESSION = ["client", "user"] as const;

/** What is not listed is for administrators. */
export const ACCESS: { readonly [N in RouteName]?: readonly AccessRole[] } = {
  health: ["anyone"],
  ready: ["anyone"],
  authority: ["anyone"],
  joinPool: ["anyone"],
  signIn: ["anyone"],
  beginOidc: ["anyone"],
  finishOidc: ["anyone"],
  whoAmI: LOOKING,
  status: LOOKING,
  authorityState: LOOKING,
  listServers: LOOKING,
  listGpus: LOOKING,
  listQueue: SESSION,
  listSessions: SESSION,
  createSession: SESSION,
  showSession: SESSION,
  watchSession: SESSION,
  connectSession: SESSION,
  sessionGpus: SESSION,
  heartbeatSession: SESSION,
  grantSession: SESSION,
  endSession: SESSION,
  describeService: ["client"],
  extendSession: SESSION,
  releaseSession: SESSION,
  sessionSamples: SESSION,
  // Of others than administrators: about her own.
  usage: ["user"],
  usageRecords: ["user"],
  billingSettings: LOOKING,
  listPrices: LOOKING,
  registerAgent: ["server"],
  certifyAgent: ["server"],
  heartbeatAgent: ["server"],
  watchDesired: ["server"],
  reportAgent: ["server"],
  renewMachine: ["server", "client"],
  leavePool: ["server", "client"],
  signOut: ["user"],
};

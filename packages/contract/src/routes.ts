import * as z from "zod";
import {
  agentHeartbeatSchema,
  agentRegistrationSchema,
  agentReportSchema,
  desiredStateSchema,
} from "./agents.ts";
import {
  auditEntrySchema,
  certificateRequestSchema,
  certificateSchema,
  clientSchema,
  revocationSchema,
  sessionGrantSchema,
  thumbprintSchema,
} from "./identity.ts";
import { serverIdSchema, sessionIdSchema } from "./ids.ts";
import { JOINING_ROUTES } from "./joining.ts";
import { PEOPLE_ROUTES } from "./people.ts";
import { gpuSchema, serverSchema } from "./servers.ts";
import {
  endReasonSchema,
  sessionConnectionSchema,
  sessionDetailSchema,
  sessionRequestSchema,
  sessionSchema,
} from "./sessions.ts";
import { foreignText } from "./text.ts";
import { TIMES } from "./product.ts";

/** One request of the API: the manager serves it, `client-api` sends it, OpenAPI documents it. */
export interface RouteSpec {
  readonly method: "GET" | "POST";
  readonly path: `/${string}`;
  readonly summary: string;
  readonly params?: z.ZodObject;
  readonly query?: z.ZodObject;
  readonly body?: z.ZodObject;
  readonly response: z.ZodObject;
}

const sessionParams = z.object({ sessionId: sessionIdSchema });
const serverParams = z.object({ serverId: serverIdSchema });
const ok = z.object({ ok: z.literal(true) });
const poll = {
  /** Answer at once when the revision is above this one, else wait for a change. */
  revision: z.coerce.number().int().min(0),
  timeoutMs: z.coerce.number().int().min(0).max(TIMES.longPollMs).default(TIMES.longPollMs),
};

export const poolStatusSchema = z.object({
  version: z.string(),
  pid: z.int(),
  startedAt: z.iso.datetime(),
  database: z.enum(["embedded", "external"]),
  servers: z.object({ online: z.int(), silent: z.int(), lost: z.int() }),
  gpus: z.object({ total: z.int(), wholeFree: z.int() }),
  sessions: z.object({ queued: z.int(), running: z.int() }),
});
export type PoolStatus = z.output<typeof poolStatusSchema>;

export const ROUTES = {
  health: { method: "GET", path: "/healthz", summary: "The process answers", response: ok },
  ready: { method: "GET", path: "/readyz", summary: "The database answers and is up to date", response: ok },
  status: { method: "GET", path: "/v1/status", summary: "The pool in numbers", response: poolStatusSchema },
  listServers: {
    method: "GET",
    path: "/v1/servers",
    summary: "All servers",
    response: z.object({ servers: z.array(serverSchema) }),
  },
  listGpus: {
    method: "GET",
    path: "/v1/gpus",
    summary: "All GPUs, with the sessions on them",
    response: z.object({ gpus: z.array(gpuSchema) }),
  },
  createSession: {
    method: "POST",
    path: "/v1/sessions",
    summary: "Ask for GPUs: granted at once, queued, or refused",
    body: sessionRequestSchema,
    response: sessionSchema,
  },
  listSessions: {
    method: "GET",
    path: "/v1/sessions",
    summary: "Sessions that live or wait; with ended=N also the last N that ended",
    query: z.object({ ended: z.coerce.number().int().min(0).max(1_000).default(0) }),
    response: z.object({ sessions: z.array(sessionSchema) }),
  },
  showSession: {
    method: "GET",
    path: "/v1/sessions/{sessionId}",
    summary: "One session with its events and processes",
    params: sessionParams,
    response: sessionDetailSchema,
  },
  watchSession: {
    method: "GET",
    path: "/v1/sessions/{sessionId}/watch",
    summary: "Long poll: answers when the session has changed",
    params: sessionParams,
    query: z.object(poll),
    response: sessionSchema,
  },
  connectSession: {
    method: "GET",
    path: "/v1/sessions/{sessionId}/connection",
    summary: "Secret and endpoints of an active session, for its broker",
    params: sessionParams,
    response: sessionConnectionSchema,
  },
  heartbeatSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/heartbeat",
    summary: "Renew the session's lease",
    params: sessionParams,
    response: z.object({ state: sessionSchema.shape.state }),
  },
  grantSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/grant",
    summary: "A fresh session grant for the client machine's key, for the session's broker",
    params: sessionParams,
    response: sessionGrantSchema,
  },
  endSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/end",
    summary: "End a session; ending an ended one changes nothing",
    params: sessionParams,
    body: z.object({ reason: endReasonSchema, message: foreignText(500).nullable().default(null) }),
    response: sessionSchema,
  },
  registerAgent: {
    method: "POST",
    path: "/v1/agents",
    summary: "An agent announces its server",
    body: agentRegistrationSchema,
    response: ok,
  },
  certifyAgent: {
    method: "POST",
    path: "/v1/agents/{serverId}/certificate",
    summary: "A certificate for the workers of a server, for one day",
    params: serverParams,
    body: certificateRequestSchema,
    response: certificateSchema,
  },
  heartbeatAgent: {
    method: "POST",
    path: "/v1/agents/{serverId}/heartbeat",
    summary: "An agent is alive; renews all it holds",
    params: serverParams,
    body: agentHeartbeatSchema,
    response: ok,
  },
  watchDesired: {
    method: "GET",
    path: "/v1/agents/{serverId}/desired",
    summary: "Long poll: the sessions a server has to hold",
    params: serverParams,
    query: z.object(poll),
    response: desiredStateSchema,
  },
  reportAgent: {
    method: "POST",
    path: "/v1/agents/{serverId}/report",
    summary: "What a server does hold, and what its workers count",
    params: serverParams,
    body: agentReportSchema,
    response: ok,
  },
  listClients: {
    method: "GET",
    path: "/v1/clients",
    summary: "Client machines by their keys, the revoked ones too",
    response: z.object({ clients: z.array(clientSchema) }),
  },
  revokeClient: {
    method: "POST",
    path: "/v1/clients/{thumbprint}/revoke",
    summary: "Trust a client's key no longer: its sessions end, and it gets no new ones",
    params: z.object({ thumbprint: thumbprintSchema }),
    body: revocationSchema,
    response: clientSchema,
  },
  audit: {
    method: "GET",
    path: "/v1/audit",
    summary: "The last things that were done or refused, newest first",
    query: z.object({ last: z.coerce.number().int().min(1).max(10_000).default(100) }),
    response: z.object({ entries: z.array(auditEntrySchema) }),
  },
  ...JOINING_ROUTES,
  ...PEOPLE_ROUTES,
} as const satisfies Record<string, RouteSpec>;

/** The hold stream is no request with an answer: lines of JSON until the session ends. */
export const HOLD_PATH = "/v1/sessions/{sessionId}/hold";

export type RouteName = keyof typeof ROUTES;
type Part<N extends RouteName, K extends string> =
  (typeof ROUTES)[N] extends Record<K, infer S extends z.ZodObject> ? S : never;

/** What a caller gives for a route. */
export type RouteInput<N extends RouteName> = ([Part<N, "params">] extends [never]
  ? object
  : { params: z.input<Part<N, "params">> }) &
  ([Part<N, "query">] extends [never] ? object : { query: z.input<Part<N, "query">> }) &
  ([Part<N, "body">] extends [never] ? object : { body: z.input<Part<N, "body">> });

/** What a handler receives: parsed. */
export type RouteRequest<N extends RouteName> = ([Part<N, "params">] extends [never]
  ? object
  : { params: z.output<Part<N, "params">> }) &
  ([Part<N, "query">] extends [never] ? object : { query: z.output<Part<N, "query">> }) &
  ([Part<N, "body">] extends [never] ? object : { body: z.output<Part<N, "body">> });

export type RouteResponse<N extends RouteName> = z.output<(typeof ROUTES)[N]["response"]>;

/** `/v1/sessions/{sessionId}` with its parameters filled in. */
export function fillPath(path: string, params: Readonly<Record<string, string>> = {}): string {
  return path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name] ?? ""));
}

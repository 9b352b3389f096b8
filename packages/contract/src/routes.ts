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
import {
  clientSpecificationSchema,
  groupNameSchema,
  groupSchema,
  policyExplanationSchema,
  policyFieldNameSchema,
  policyFieldsSchema,
  policySchema,
  policyScopeSchema,
  policySubjectSchema,
  userNameSchema,
} from "./policies.ts";
import { JOINING_ROUTES } from "./joining.ts";
import { OIDC_ROUTES } from "./oidc.ts";
import { PEOPLE_ROUTES } from "./people.ts";
import { PRIVACY_ROUTES } from "./privacy.ts";
import { gpuSchema, serverSchema } from "./servers.ts";
import { sessionGpusSchema } from "./session-gpus.ts";
import {
  endReasonSchema,
  queueSchema,
  sessionConnectionSchema,
  sessionDetailSchema,
  sessionRequestSchema,
  sessionSchema,
} from "./sessions.ts";
import { serviceDescriptionSchema, serviceQuestionSchema } from "./service.ts";
import { foreignText } from "./text.ts";
import { TIMES } from "./product.ts";
import type { RouteSpec } from "./route-spec.ts";
import { USAGE_ROUTES } from "./routes-usage.ts";

export type { RouteSpec } from "./route-spec.ts";

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
  listQueue: {
    method: "GET",
    path: "/v1/queue",
    summary: "Who waits, in which order, why, and until when probably",
    response: queueSchema,
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
  sessionGpus: {
    method: "GET",
    path: "/v1/sessions/{sessionId}/gpus",
    summary:
      "The GPUs of a session as its programs see them, what they do and who uses them: no use by itself",
    params: sessionParams,
    response: sessionGpusSchema,
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
    /** Which of the session's servers it is for; left out: the first. */
    query: z.object({ serverId: serverIdSchema.optional() }),
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
  extendSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/extend",
    summary: "Move the end of a session's maximum duration, as far as policies allow",
    params: sessionParams,
    body: z.object({ byMs: z.int().min(1).max(31_536_000_000) }),
    response: sessionSchema,
  },
  messageSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/message",
    summary: "Show a text on the terminals that hold the session",
    params: sessionParams,
    body: z.object({ text: foreignText(500).min(1) }),
    response: sessionSchema,
  },
  releaseSession: {
    method: "POST",
    path: "/v1/sessions/{sessionId}/release",
    summary: "Give the GPUs of a reserved session back",
    params: sessionParams,
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
  readClientSpecification: {
    method: "GET",
    path: "/v1/clients/{thumbprint}/specification",
    summary: "What the service of a client may have",
    params: z.object({ thumbprint: thumbprintSchema }),
    response: z.object({ specification: clientSpecificationSchema.nullable() }),
  },
  describeService: {
    method: "POST",
    path: "/v1/clients/{thumbprint}/service",
    summary: "What the service of a client may have, and what GPUs of the pool it would be",
    params: z.object({ thumbprint: thumbprintSchema }),
    body: serviceQuestionSchema,
    response: serviceDescriptionSchema,
  },
  specifyClient: {
    method: "POST",
    path: "/v1/clients/{thumbprint}/specification",
    summary: "Say what the service of a client may have; null takes that back",
    params: z.object({ thumbprint: thumbprintSchema }),
    body: z.object({ specification: clientSpecificationSchema.nullable() }),
    response: z.object({ specification: clientSpecificationSchema.nullable() }),
  },
  listPolicies: {
    method: "GET",
    path: "/v1/policies",
    summary: "All policies, the most specific first",
    response: z.object({ policies: z.array(policySchema) }),
  },
  setPolicy: {
    method: "POST",
    path: "/v1/policies",
    summary: "Set fields of a policy; those that are not named stay",
    body: z.object({ scope: policyScopeSchema, fields: policyFieldsSchema }),
    response: policySchema,
  },
  removePolicy: {
    method: "POST",
    path: "/v1/policies/remove",
    summary: "Remove fields of a policy, or all of it",
    body: z.object({
      scope: policyScopeSchema,
      fields: z.array(policyFieldNameSchema).nullable().default(null),
    }),
    response: ok,
  },
  explainPolicy: {
    method: "GET",
    path: "/v1/policies/explain",
    summary: "Every field as it holds for a user, a client and a project, and where it comes from",
    query: policySubjectSchema,
    response: policyExplanationSchema,
  },
  listGroups: {
    method: "GET",
    path: "/v1/groups",
    summary: "Groups of users",
    response: z.object({ groups: z.array(groupSchema) }),
  },
  changeGroup: {
    method: "POST",
    path: "/v1/groups",
    summary: "Put users into a group, which is made if there is none, or take them out",
    body: z.object({
      name: groupNameSchema,
      add: z.array(userNameSchema).max(1_000).default([]),
      remove: z.array(userNameSchema).max(1_000).default([]),
    }),
    response: groupSchema,
  },
  removeGroup: {
    method: "POST",
    path: "/v1/groups/remove",
    summary: "Remove a group; a policy for it goes with it",
    body: z.object({ name: groupNameSchema }),
    response: ok,
  },
  audit: {
    method: "GET",
    path: "/v1/audit",
    summary: "The last things that were done or refused, newest first",
    query: z.object({ last: z.coerce.number().int().min(1).max(10_000).default(100) }),
    response: z.object({ entries: z.array(auditEntrySchema) }),
  },
  ...USAGE_ROUTES,
  ...JOINING_ROUTES,
  ...PEOPLE_ROUTES,
  ...PRIVACY_ROUTES,
  ...OIDC_ROUTES,
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

import * as z from "zod";
import { filterTextSchema } from "./filters.ts";
import { connectionIdSchema, gpuUuidSchema, serverIdSchema, sessionIdSchema } from "./ids.ts";
import { authoritiesSchema, publicKeySchema, sessionGrantSchema, thumbprintSchema } from "./identity.ts";
import { endpointSchema } from "./servers.ts";
import { labelsSchema, projectNameSchema } from "./policies.ts";
import { count32Schema, foreignText } from "./text.ts";
import { sizeSchema } from "./sizes.ts";
import { sandboxLayersSchema, workerReportSchema } from "./workers.ts";

/** requested → queued → granted (GPUs are chosen) → active (the server takes connections) → ended. */
export const sessionStates = ["requested", "queued", "granted", "active", "ended"] as const;
export const sessionStateSchema = z.enum(sessionStates);
export type SessionState = z.output<typeof sessionStateSchema>;

export const endReasons = [
  "finished",
  "cancelled",
  "wait-over",
  "client-lost",
  "server-lost",
  "refused-by-server",
  "ended-by-administrator",
  "revoked",
  "idle",
  "duration",
  "released",
] as const;
export const endReasonSchema = z.enum(endReasons);
export type EndReason = z.output<typeof endReasonSchema>;

const instant = z.iso.datetime();
const shortText = foreignText(200).min(1);

/** What a session has that does not say otherwise. */
export const DEFAULT_PRIORITY = 50;
export const HIGHEST_PRIORITY = 100;

/** Who asks, as the client reports it. */
export const sessionClientSchema = z.object({
  host: shortText,
  user: shortText,
  pid: count32Schema.min(1),
  program: foreignText(4_096).nullable(),
});

export const sessionNameSchema = z
  .string()
  .regex(/^[\w.@ -]{1,64}$/, "a name has 1 to 64 letters, digits, spaces or ._@-");

/** A `reserve` lives without a process of its own; a `service` is that of a client machine. */
export const sessionPurposes = ["run", "reserve", "service"] as const;
export const sessionPurposeSchema = z.enum(sessionPurposes);
export type SessionPurpose = z.output<typeof sessionPurposeSchema>;

const TEN_YEARS_MS = 10 * 365 * 86_400_000;
/** Null: without. */
const lifetime = z.int().min(1).max(TEN_YEARS_MS).nullable();

export const sessionRequestSchema = z.object({
  /** What it will be called. Who got no answer asks again with the same id, and gets the same session. */
  id: sessionIdSchema.optional(),
  count: z.int().min(1).max(100_000),
  size: sizeSchema,
  name: sessionNameSchema.nullable(),
  client: sessionClientSchema,
  /** Who holds its private half can let processes into the session. */
  clientKey: publicKeySchema,
  /** How long it may be queued: null is without limit, 0 is not at all. */
  waitMs: z.number().min(0).max(31_536_000_000).nullable(),
  purpose: sessionPurposeSchema.default("run"),
  project: projectNameSchema.nullable().default(null),
  labels: labelsSchema.default({}),
  /** Ends the session after so long without use. */
  idleTimeoutMs: lifetime.default(null),
  /** Ends the session so long after it was granted. */
  maxDurationMs: lifetime.default(null),
  /** Ends a reserved session after so long without anything attached. */
  autoReleaseMs: lifetime.default(null),
  /** Null: the normal one, or the highest that policies allow where that is lower. */
  priority: z.int().min(0).max(HIGHEST_PRIORITY).nullable().default(null),
  /** Which GPUs will do (`filters.ts`): all of them must hold. */
  filters: z.array(filterTextSchema).max(32).default([]),
  /** GPUs on several servers will do. */
  spreadServers: z.boolean().default(false),
});
export type SessionRequest = z.output<typeof sessionRequestSchema>;

export const sessionGpuSchema = z.object({
  uuid: gpuUuidSchema,
  name: z.string(),
  memoryTotalBytes: z.int(),
  /** Null: the whole GPU. */
  memoryLimitBytes: z.int().nullable(),
  /** When it was free for others again: its server had ended the session's workers. Null until then. */
  releasedAt: instant.nullable().default(null),
});

export const sessionUsageSchema = z.object({
  heldMs: z.number(),
  busyMs: z.number(),
  processes: z.int(),
  calls: z.int(),
  roundTrips: z.int(),
  localCalls: z.int(),
  bytesReceived: z.int(),
  bytesSent: z.int(),
  kernelLaunches: z.int(),
  memoryPeakBytes: z.int(),
});
export type SessionUsage = z.output<typeof sessionUsageSchema>;

export const queuePlaceSchema = z.object({
  position: z.int(),
  /** Why it has nothing yet. */
  waitsFor: z.string(),
  /** When it will probably be granted; null: nobody knows. */
  estimatedAt: instant.nullable(),
});

export const sessionSchema = z.object({
  id: sessionIdSchema,
  state: sessionStateSchema,
  name: z.string().nullable(),
  count: z.int(),
  size: sizeSchema,
  client: sessionClientSchema,
  clientKey: thumbprintSchema.nullable(),
  purpose: sessionPurposeSchema,
  project: z.string().nullable(),
  labels: labelsSchema,
  idleTimeoutMs: z.int().nullable(),
  maxDurationMs: z.int().nullable(),
  autoReleaseMs: z.int().nullable(),
  /** When its maximum duration is over; null without one, or before it was granted. */
  expiresAt: instant.nullable(),
  /** When a kernel, copy or call of its programs was last seen. */
  lastBusyAt: instant.nullable(),
  /** The server that it is on; of a session that is spread over several, the first. */
  serverId: serverIdSchema.nullable(),
  serverName: z.string().nullable(),
  /** The others, in the order in which programs count their GPUs. */
  furtherServers: z.array(z.object({ id: serverIdSchema, name: z.string() })).default([]),
  gpus: z.array(sessionGpuSchema),
  requestedAt: instant,
  grantedAt: instant.nullable(),
  activeAt: instant.nullable(),
  endedAt: instant.nullable(),
  endReason: endReasonSchema.nullable(),
  endMessage: z.string().nullable(),
  /** When its GPUs were free for others again: the server has ended the session's workers. */
  releasedAt: instant.nullable(),
  queue: queuePlaceSchema.nullable(),
  priority: z.int(),
  filters: z.array(z.string()),
  /** A budget that was spent when it was asked for, in a sentence. */
  budgetNotice: z.string().nullable(),
  usage: sessionUsageSchema,
  /** Grows with every change; what a long poll waits for. */
  revision: z.int(),
});
export type Session = z.output<typeof sessionSchema>;

/** The queue's entry of a session. */
export const queueEntrySchema = z.object({
  session: sessionSchema,
  /** Whose fair share it counts against. */
  shareKey: z.string(),
});

/** What a user has had lately, of which half is forgotten after each half-life. */
export const fairShareSchema = z.object({
  shareKey: z.string(),
  usedGpuSeconds: z.number(),
  heldGpus: z.number(),
  waiting: z.int(),
});

export const queueSchema = z.object({
  /** First to last. */
  entries: z.array(queueEntrySchema),
  /** Of those who wait, who had the least first. */
  users: z.array(fairShareSchema),
  halfLifeMs: z.number(),
});
export type Queue = z.output<typeof queueSchema>;

export const sessionEventSchema = z.object({ at: instant, state: sessionStateSchema, reason: z.string() });
export type SessionEvent = z.output<typeof sessionEventSchema>;

export const sessionProcessSchema = z.object({
  connectionId: connectionIdSchema,
  workerPid: z.int(),
  clientPid: z.int().nullable(),
  program: z.string().nullable(),
  /** Null until the worker has told. */
  sandbox: sandboxLayersSchema.nullable(),
  startedAt: instant,
  endedAt: instant.nullable(),
  exit: z.string().nullable(),
  report: workerReportSchema.nullable(),
});

export const sessionDetailSchema = sessionSchema.extend({
  events: z.array(sessionEventSchema),
  processes: z.array(sessionProcessSchema),
});
export type SessionDetail = z.output<typeof sessionDetailSchema>;

/** The way to a session's GPUs on one server. */
export const serverConnectionSchema = z.object({
  serverId: serverIdSchema,
  endpoints: z.array(endpointSchema).min(1),
  grant: sessionGrantSchema,
});
export type ServerConnection = z.output<typeof serverConnectionSchema>;

/** What a broker needs to let programs connect. Never part of a list. */
export const sessionConnectionSchema = serverConnectionSchema.extend({
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  /** How long a worker waits for a client whose connection broke. */
  graceSeconds: z.int().min(0),
  /** Who signed the certificates of the servers' workers. */
  authorities: authoritiesSchema,
  /** The others of a session that is spread over several servers, in the order of `Session.furtherServers`. */
  furtherServers: z.array(serverConnectionSchema).default([]),
});
export type SessionConnection = z.output<typeof sessionConnectionSchema>;

/** Something to be shown to who holds a session. */
export const sessionNoticeSchema = z.object({
  number: z.int(),
  at: instant,
  kind: z.enum(["message", "idle", "duration"]),
  text: z.string(),
});
export type SessionNotice = z.output<typeof sessionNoticeSchema>;

/** A line of a session's hold stream. */
export const holdLineSchema = z.object({
  /** Those that the stream has not told yet. */
  notices: z.array(sessionNoticeSchema).default([]),
  /** Up to which number everything was told: a stream that is opened again begins there. */
  lastNotice: z.int().default(0),
  state: sessionStateSchema,
  endReason: endReasonSchema.nullable(),
  message: z.string().nullable(),
});
export type HoldLine = z.output<typeof holdLineSchema>;

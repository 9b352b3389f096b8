import * as z from "zod";
import { connectionIdSchema, gpuUuidSchema, serverIdSchema, sessionIdSchema } from "./ids.ts";
import { hostFactsSchema } from "./host-facts.ts";
import { trustSchema } from "./identity.ts";
import { foreignText, plainText } from "./text.ts";
import { instantSchema, sandboxLayersSchema, sessionWorkerSchema } from "./workers.ts";
import { endpointSchema, inventorySchema, serverLabelsSchema } from "./servers.ts";

/** What an agent tells about its server when it starts; the same id again is the same server. */
export const agentRegistrationSchema = z.object({
  serverId: serverIdSchema,
  name: foreignText(200).min(1),
  version: plainText(50).min(1),
  endpoints: z.array(endpointSchema).min(1).max(16),
  inventory: inventorySchema,
  /** The sandbox around each worker; null where the acceptor does not tell. */
  workerSandbox: sandboxLayersSchema.nullish(),
  /** What the server is called by; labels that administrators give it count before these. */
  labels: serverLabelsSchema.default({}),
  host: hostFactsSchema.nullish(),
});

export const agentHeartbeatSchema = z.object({
  /** Present when it changed or was read again. */
  inventory: inventorySchema.nullable(),
  /** False while the acceptor does not answer: nothing new is placed on this server then. */
  acceptorReady: z.boolean(),
  /** Present now and then. */
  host: hostFactsSchema.nullish(),
  /** All that its last report said is still so: as good as another report. */
  hasNothingNew: z.boolean().default(false),
});

/** A session as the acceptor has to hold it (ARCHITECTURE 4.5). */
export const desiredSessionSchema = z.object({
  id: sessionIdSchema,
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  gpus: z.array(z.object({ uuid: gpuUuidSchema, memoryLimitBytes: z.int().min(1).nullable() })).min(1),
  /** How long its workers wait for clients whose connections broke. */
  graceSeconds: z.int().min(0),
  /** After so long, counted from the answer, the server ends it by itself, should the manager be away then; null: never. */
  endsInMs: z.int().min(0).nullable().default(null),
});
export type DesiredSession = z.output<typeof desiredSessionSchema>;

export const desiredStateSchema = z.object({
  /** Grows with every change of the set. */
  revision: z.int().min(0),
  sessions: z.array(desiredSessionSchema),
  /** What the server's workers check grants against. */
  trust: trustSchema,
});
export type DesiredState = z.output<typeof desiredStateSchema>;

/** A connection that acceptor or worker turned away. What it named may be anything. */
export const refusalSchema = z.object({
  /** Made by the agent: a report that is sent again counts once. */
  id: z.uuid(),
  at: instantSchema,
  sessionId: foreignText(64).nullable(),
  connectionId: foreignText(64).nullable(),
  /** Where it came from: an address, or a process. */
  peer: foreignText(200).nullable(),
  reason: foreignText(1_000),
});
export type Refusal = z.output<typeof refusalSchema>;

/** A worker in the 10 s that began at `at`. */
export const workerSampleSchema = z.object({
  sessionId: sessionIdSchema,
  connectionId: connectionIdSchema,
  at: z.iso.datetime(),
  busyMs: z.int().min(0),
  memoryUsedBytes: z.int().min(0),
});
export type WorkerSample = z.output<typeof workerSampleSchema>;

/** What is open at the acceptor after the agent has carried out the set of `appliedRevision`. */
export const agentReportSchema = z.object({
  appliedRevision: z.int().min(0),
  openSessions: z.array(sessionIdSchema).max(10_000),
  /** Sessions the acceptor would not open, with its sentence. */
  failures: z.array(z.object({ sessionId: sessionIdSchema, message: foreignText(2_000) })).max(1_000),
  /** Every living worker, and those that ended since the last report that was accepted. */
  workers: z.array(sessionWorkerSchema).max(20_000),
  /** Since the last report that was accepted. */
  refusals: z.array(refusalSchema).max(1_000).default([]),
  /** How busy workers were, 10 s each, since the last report that was accepted. */
  samples: z.array(workerSampleSchema).max(20_000).default([]),
});
export type AgentReport = z.input<typeof agentReportSchema>;

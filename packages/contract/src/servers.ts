import * as z from "zod";
import { knownHostFactsSchema } from "./host-facts.ts";
import { count32Schema, foreignText, plainText } from "./text.ts";
import { gpuUuidSchema, serverIdSchema, sessionIdSchema } from "./ids.ts";
import { sandboxLayersSchema } from "./workers.ts";

const place = { host: plainText(253).min(1), port: z.int().min(1).max(65_535) } as const;

/** Where the acceptor of a server takes data connections. */
export const endpointSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("unix"), path: foreignText(107).min(1) }),
  z.object({ kind: z.literal("tls"), ...place }),
  /** Neither encrypted nor authenticated: for tests and measurements. */
  z.object({ kind: z.literal("tcp"), ...place }),
]);
export type Endpoint = z.output<typeof endpointSchema>;

const bytes = z.int().min(0);

/** One GPU as `farpool-worker inventory` prints it (ARCHITECTURE 4.8). */
export const inventoryGpuSchema = z.object({
  index: count32Schema,
  uuid: gpuUuidSchema,
  name: foreignText(200).min(1),
  memoryTotalBytes: z.int().min(1),
  memoryUsedBytes: bytes.nullable(),
  computeCapability: plainText(20),
  pciBusId: plainText(40),
  multiprocessors: count32Schema,
});
export type InventoryGpu = z.output<typeof inventoryGpuSchema>;

export const inventorySchema = z.object({
  /** CUDA's number (13000) or text; text (13.0) from here on. */
  driverVersion: z
    .union([plainText(50), z.int().min(0)])
    .transform((version) =>
      typeof version === "string"
        ? version
        : `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`,
    ),
  simulated: z.boolean(),
  gpus: z.array(inventoryGpuSchema).max(256),
  /** What a worker's sandbox can consist of on this machine. */
  sandbox: sandboxLayersSchema.default([]),
});
export type Inventory = z.output<typeof inventorySchema>;

/** A server is *silent* when its agent has not spoken lately: no new sessions, those it has go on. */
export const serverStates = ["online", "silent", "lost"] as const;

export const gpuShareSchema = z.object({
  sessionId: sessionIdSchema,
  sessionName: z.string().nullable(),
  user: z.string(),
  host: z.string(),
  program: z.string().nullable(),
  memoryLimitBytes: bytes.nullable(),
  memoryUsedBytes: bytes,
});

export const gpuSchema = inventoryGpuSchema.extend({
  serverId: serverIdSchema,
  serverName: z.string(),
  serverState: z.enum(serverStates),
  simulated: z.boolean(),
  /** False when the last inventory no longer named it. */
  present: z.boolean(),
  /** What a new session could get of it now. */
  memoryFreeBytes: bytes,
  wholeFree: z.boolean(),
  sessions: z.array(gpuShareSchema),
});
export type Gpu = z.output<typeof gpuSchema>;

export const serverSchema = z.object({
  id: serverIdSchema,
  name: z.string(),
  state: z.enum(serverStates),
  version: z.string(),
  driverVersion: z.string(),
  simulated: z.boolean(),
  endpoints: z.array(endpointSchema),
  gpuCount: z.int(),
  /** The sandbox around each of its workers; empty where it is switched off, null where nobody told. */
  workerSandbox: sandboxLayersSchema.nullable(),
  /** Of its machine, as its agent told last; null where it does not tell. */
  host: knownHostFactsSchema.nullable().default(null),
  registeredAt: z.iso.datetime(),
  lastSeenAt: z.iso.datetime(),
});
export type Server = z.output<typeof serverSchema>;

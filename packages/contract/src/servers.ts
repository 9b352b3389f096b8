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

/** What CUDA answers of a GPU to a client: (`CUdevice_attribute`, value). */
export const deviceAttributesSchema = z.array(z.tuple([z.int().min(0).max(9_999), z.int32()])).max(1_000);
export type DeviceAttributes = z.output<typeof deviceAttributesSchema>;

/** How a GPU is, as far as NVIDIA's tools tell on this machine; null is what they do not. */
export const gpuHealthSchema = z.object({
  temperatureCelsius: z.int().nullable(),
  eccUncorrected: z.int().min(0).nullable(),
  eccCorrected: z.int().min(0).nullable(),
  /** Why its clocks are held down, if for a reason of concern: empty is none. */
  throttling: z.array(z.string().max(40)).max(16).nullable(),
  mig: z.enum(["enabled", "disabled"]).nullable(),
  /** The last critical error of the driver (XID) since the machine started. */
  xid: z.object({ code: z.int(), message: foreignText(300) }).nullable(),
  /** Processes on it that are not of the pool. */
  foreignProcesses: z
    .array(z.object({ pid: z.int(), program: foreignText(200), memoryUsedBytes: bytes.nullable() }))
    .max(64)
    .nullable(),
});
export type GpuHealth = z.output<typeof gpuHealthSchema>;

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
  /** Null, or left out: a worker that does not tell. */
  attributes: deviceAttributesSchema.nullish(),
  /** Null, or left out: nobody could tell. */
  health: gpuHealthSchema.nullish(),
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
  /** The driver's own release (580.95.05); null where nobody tells. */
  driverRelease: z.string().max(50).nullish(),
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

/** What an administrator calls servers by: `zone=b`, `nvlink=yes`. */
export const serverLabelsSchema = z.record(
  z
    .string()
    .regex(
      /^[a-z][a-z0-9._/-]{0,62}$/,
      "a label's name has small letters, digits and ._/- and begins with a letter",
    ),
  foreignText(100),
);

export const maintenanceSchema = z.object({
  until: z.iso.datetime(),
  /** What those who wait are told. */
  message: z.string(),
});

export const serverChangeSchema = z.object({
  /** True: no new sessions, those it has go on. False: it serves again. */
  drain: z.boolean().optional(),
  reason: foreignText(300).nullable().default(null),
  /** Null ends it. */
  maintenance: z
    .object({ until: z.iso.datetime({ offset: true }), message: foreignText(300).min(1) })
    .nullable()
    .optional(),
  /** Null takes a label away. */
  labels: z.record(z.string(), z.string().nullable()).optional(),
});
export type ServerChange = z.output<typeof serverChangeSchema>;

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
  driverRelease: z.string().nullable(),
  labels: serverLabelsSchema,
  /** Since when it takes no new sessions, and why. */
  drain: z.object({ since: z.iso.datetime(), reason: z.string().nullable() }).nullable(),
  maintenance: maintenanceSchema.nullable(),
  /** Sessions that have GPUs of it, those that are being closed too. */
  sessions: z.int(),
  /** Of its machine, as its agent told last; null where it does not tell. */
  host: knownHostFactsSchema.nullable().default(null),
  registeredAt: z.iso.datetime(),
  lastSeenAt: z.iso.datetime(),
});
export type Server = z.output<typeof serverSchema>;

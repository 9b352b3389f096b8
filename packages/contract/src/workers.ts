import * as z from "zod";
import { count32Schema, foreignText } from "./text.ts";
import { connectionIdSchema, gpuUuidSchema, sessionIdSchema } from "./ids.ts";

const count = z.int().min(0);

/** What a worker counts (ARCHITECTURE 4.5); the acceptor and the agent pass it on unchanged. */
export const workerReportSchema = z.object({
  calls: count,
  roundTrips: count,
  localCalls: count,
  bytesReceived: count,
  bytesSent: count,
  kernelLaunches: count,
  busyMs: z.number().min(0),
  memoryPeakBytes: count,
  perGpu: z.array(z.object({ uuid: gpuUuidSchema, memoryUsedBytes: count })).max(64),
});
export type WorkerReport = z.output<typeof workerReportSchema>;

/** From 1970 to the end of 9999: other years are written in ways that PostgreSQL does not read. */
const LATEST_MS = 253_402_300_799_999;
const isStorable = (at: Date): boolean => at.getTime() >= 0 && at.getTime() <= LATEST_MS;

/** Times may come as ISO text or as milliseconds since 1970; they are ISO text from here on. */
export const instantSchema = z
  .union([z.iso.datetime({ offset: true }), z.number().min(0).max(LATEST_MS)])
  .transform((value) => new Date(value))
  .refine(isStorable, "a time is from 1970 to 9999")
  .transform((at) => at.toISOString());

/** How a worker ended: a sentence, or code and signal as the acceptor saw them. */
const exitSchema = z
  .union([
    foreignText(500),
    z.number(),
    z.object({ code: z.number().nullish(), signal: z.union([foreignText(40), z.number()]).nullish() }),
  ])
  .transform((exit) => {
    if (typeof exit === "string") return exit;
    if (typeof exit === "number") return `code ${exit}`;
    if (exit.signal !== undefined && exit.signal !== null) return `signal ${exit.signal}`;
    return `code ${exit.code ?? 0}`;
  });

/** The layers of a worker's sandbox, as it names them: `seccomp`, `landlock-7`. */
export const sandboxLayersSchema = z.array(z.string().regex(/^[a-z0-9-]{1,40}$/)).max(16);

export const workerSchema = z.object({
  pid: count32Schema.min(1),
  connectionId: connectionIdSchema,
  clientPid: count32Schema.nullish(),
  program: foreignText(4_096).nullish(),
  sandbox: sandboxLayersSchema.nullish(),
  startedAt: instantSchema,
  endedAt: instantSchema.nullish(),
  exit: exitSchema.nullish(),
  report: workerReportSchema.nullish(),
});
export type Worker = z.output<typeof workerSchema>;

export const sessionWorkerSchema = z.object({ sessionId: sessionIdSchema, worker: workerSchema });

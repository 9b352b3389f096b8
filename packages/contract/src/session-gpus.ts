import * as z from "zod";
import { gpuUuidSchema } from "./ids.ts";
import { gpuHealthSchema } from "./servers.ts";

const bytes = z.int().min(0);
const percent = z.int().min(0).max(100);

/** A process of the session on one of its GPUs. */
export const sessionGpuProcessSchema = z.object({
  /** Where the client lives. */
  pid: z.int(),
  program: z.string(),
  memoryUsedBytes: bytes,
  /** Of the last 10 s that were told; null before the first. */
  busyPercent: percent.nullable(),
});

/** A GPU of a session as its programs see it: of a slice, the slice's memory. */
export const sessionGpuFactsSchema = z.object({
  uuid: gpuUuidSchema,
  name: z.string(),
  pciBusId: z.string(),
  computeCapability: z.string(),
  multiprocessors: z.int(),
  memoryTotalBytes: bytes,
  /** By the session's own processes. */
  memoryUsedBytes: bytes,
  busyPercent: percent,
  health: gpuHealthSchema
    .pick({ temperatureCelsius: true, eccCorrected: true, eccUncorrected: true, throttling: true, mig: true })
    .nullable(),
  processes: z.array(sessionGpuProcessSchema),
});

/** What NVML tells the programs of a session. */
export const sessionGpusSchema = z.object({
  /** CUDA's version of the server's driver: 13.0. */
  driverVersion: z.string(),
  /** The driver's own release; null where nobody tells. */
  driverRelease: z.string().nullable(),
  simulated: z.boolean(),
  gpus: z.array(sessionGpuFactsSchema),
});
export type SessionGpus = z.output<typeof sessionGpusSchema>;

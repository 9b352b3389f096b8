import { gpuUuidSchema, serverIdSchema, sessionIdSchema } from "@farpool/contract";
import type { ServerCapacity, WaitingSession } from "@farpool/domain";
import { Random } from "./random.ts";

export interface WorkloadOptions {
  readonly seed: number;
  readonly servers: number;
  readonly gpusPerServer: number;
  readonly sessions: number;
  /** GPU-seconds that are asked for while sessions arrive, to those that the pool has. */
  readonly load: number;
  /** How much each user asks for, beside the others. */
  readonly users: Readonly<Record<string, number>>;
  /** Part of the sessions that say how long they may take. */
  readonly knownShare: number;
}

export interface SimulatedSession extends WaitingSession {
  readonly lengthMs: number;
}

export const SIZES = [
  [1, 70],
  [2, 20],
  [8, 10],
] as const;
const MEDIAN_LENGTH_MS = 30 * 60_000;
const SIGMA = 1;
/** Of a log-normal distribution. */
export const MEAN_LENGTH_MS = MEDIAN_LENGTH_MS * Math.exp(SIGMA ** 2 / 2);
const GIB = 1024 ** 3;

/** Sessions in the order of their arrival. */
export function createWorkload(options: WorkloadOptions): readonly SimulatedSession[] {
  const random = new Random(options.seed);
  const weights = SIZES.reduce((sum, [, weight]) => sum + weight, 0);
  const meanGpus = SIZES.reduce((sum, [count, weight]) => sum + count * weight, 0) / weights;
  const gpus = options.servers * options.gpusPerServer;
  const betweenMs = (meanGpus * MEAN_LENGTH_MS) / (gpus * options.load);
  let nowMs = 0;
  return Array.from({ length: options.sessions }, (_, number) => {
    nowMs += random.exponential(betweenMs);
    const lengthMs = random.logNormal(MEDIAN_LENGTH_MS, SIGMA);
    // Who says how long it may take says more than it takes.
    const maxDurationMs =
      random.uniform() < options.knownShare ? Math.ceil(lengthMs * (1 + random.uniform())) : null;
    return {
      id: sessionIdSchema.parse(`s-${number.toString(36).padStart(6, "0")}`),
      user: random.pick(Object.entries(options.users)),
      count: random.pick(SIZES),
      size: { kind: "whole" },
      priority: 50,
      queueNumber: number,
      requestedAtMs: nowMs,
      maxDurationMs,
      lengthMs,
    };
  });
}

/** A pool in which nobody has anything. */
export function createServers({
  servers,
  gpusPerServer,
}: Pick<WorkloadOptions, "servers" | "gpusPerServer">): readonly ServerCapacity[] {
  return Array.from({ length: servers }, (_, server) => ({
    id: serverIdSchema.parse(`00000000-0000-4000-8000-${String(server).padStart(12, "0")}`),
    name: `gpu-${String(server).padStart(4, "0")}`,
    accepts: true,
    gpus: Array.from({ length: gpusPerServer }, (_, index) => ({
      uuid: gpuUuidSchema.parse(`GPU-${server}-${index}`),
      name: "Simulated GPU",
      index,
      totalBytes: 80 * GIB,
      slices: [],
    })),
  }));
}

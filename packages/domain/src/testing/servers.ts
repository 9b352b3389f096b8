import {
  gpuUuidSchema,
  serverIdSchema,
  sessionIdSchema,
  type ServerId,
  type SessionId,
} from "@farpool/contract";
import type { GpuCapacity, ServerCapacity } from "../capacity.ts";
import type { RunningSession, WaitingSession } from "../wish.ts";

export const GIB = 1024 ** 3;
export const MINUTE = 60_000;

export const serverId = (number: number): ServerId =>
  serverIdSchema.parse(`00000000-0000-4000-8000-${String(number).padStart(12, "0")}`);
export const sessionId = (name: string): SessionId => sessionIdSchema.parse(`s-${name}`);

/** A server whose GPUs have these slices on them, in GiB; null is a whole one. */
export function server(
  number: number,
  gpus: ReadonlyArray<ReadonlyArray<number | null>>,
  more: Partial<ServerCapacity> & { readonly gib?: number; readonly gpu?: Partial<GpuCapacity> } = {},
): ServerCapacity {
  const { gib = 16, gpu, ...rest } = more;
  return {
    id: serverId(number),
    name: `gpu-0${number}`,
    accepts: true,
    ...rest,
    gpus: gpus.map((slices, index) => ({
      uuid: gpuUuidSchema.parse(`GPU-${number}-${index}`),
      name: "Test GPU",
      index,
      totalBytes: gib * GIB,
      slices: slices.map((slice) => (slice === null ? null : slice * GIB)),
      ...gpu,
    })),
  };
}

let number = 0;

/** One GPU for `dev1`, asked for in this moment, after all that were made before it. */
export function waiting(name: string, more: Partial<WaitingSession> = {}): WaitingSession {
  number += 1;
  return {
    id: sessionId(name),
    user: "dev1",
    count: 1,
    size: { kind: "whole" },
    priority: 50,
    queueNumber: number,
    requestedAtMs: 0,
    maxDurationMs: null,
    ...more,
  };
}

/** Whole GPUs of a server, held since the beginning. */
export function running(
  name: string,
  [place, ...indexes]: readonly [number, ...number[]],
  maxDurationMs: number | null = null,
): RunningSession {
  const gpus = indexes.map((index) => ({
    uuid: gpuUuidSchema.parse(`GPU-${place}-${index}`),
    memoryLimitBytes: null,
  }));
  return {
    id: sessionId(name),
    grantedAtMs: 0,
    maxDurationMs,
    placement: { servers: [{ serverId: serverId(place), gpus }] },
  };
}

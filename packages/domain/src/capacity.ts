import { MIB, type GpuPart, type GpuUuid, type ServerId, type Size } from "@farpool/contract";

/** A GPU as placement sees it: `slices` are the limits of the sessions on it, null for a whole one. */
export interface GpuCapacity {
  readonly uuid: GpuUuid;
  readonly name: string;
  readonly index: number;
  readonly totalBytes: number;
  readonly slices: ReadonlyArray<number | null>;
  readonly computeCapability?: string;
  readonly multiprocessors?: number;
}

/** What filters can ask of a server; null is what it does not tell. */
export interface ServerFacts {
  readonly addresses: readonly string[];
  readonly cudaVersion: string | null;
  readonly driverVersion: string | null;
  readonly isSimulated: boolean;
  readonly labels: Readonly<Record<string, string>>;
}

export interface ServerCapacity {
  readonly id: ServerId;
  readonly name: string;
  /** False: takes no new sessions now, but may again. */
  readonly accepts: boolean;
  /** What an administrator says about that: it is drained, or in maintenance. */
  readonly closedBecause?: string | null;
  readonly gpus: readonly GpuCapacity[];
  readonly facts?: ServerFacts;
}

/** What a session of this size takes of a GPU: null is all of it, undefined: the GPU is too small. */
export function limitOn(gpu: Pick<GpuCapacity, "totalBytes">, size: Size): number | null | undefined {
  switch (size.kind) {
    case "whole":
      return null;
    case "share":
      return Math.max(MIB, Math.floor((gpu.totalBytes * size.share) / MIB) * MIB);
    case "memory": {
      const limit = size.memoryMib * MIB;
      return limit <= gpu.totalBytes ? limit : undefined;
    }
  }
}

/** Memory that slices may still take; none when somebody has the whole GPU. */
export function freeBytes(gpu: Pick<GpuCapacity, "totalBytes" | "slices">): number {
  let free = gpu.totalBytes;
  for (const slice of gpu.slices) {
    if (slice === null) return 0;
    free -= slice;
  }
  return Math.max(0, free);
}

export function isUnused(gpu: Pick<GpuCapacity, "slices">): boolean {
  return gpu.slices.length === 0;
}

/** How much of a GPU a session has: 1 is all of it. What is held is counted in these. */
export function shareOf(totalBytes: number, limitBytes: number | null): number {
  return limitBytes === null ? 1 : limitBytes / totalBytes;
}

export function toPart(gpu: GpuCapacity, limit: number | null): GpuPart {
  return { name: gpu.name, totalBytes: gpu.totalBytes, limitBytes: limit };
}

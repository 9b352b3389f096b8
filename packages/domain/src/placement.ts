import type { GpuUuid, ServerId, Size } from "@farpool/contract";
import { fitsOn, freeBytes, isUnused, limitOn, type GpuCapacity, type ServerCapacity } from "./capacity.ts";

/**
 * Placement: which GPUs a session gets. All of them on one server, all together or none. Best fit:
 * the GPUs that leave the least unused, so that large free pieces stay large.
 */

export interface Wish {
  readonly count: number;
  readonly size: Size;
  /** The servers it may be placed on; not there: any. */
  readonly only?: ReadonlySet<ServerId>;
}

export interface PlacedGpu {
  readonly uuid: GpuUuid;
  readonly memoryLimitBytes: number | null;
}

export interface Placement {
  readonly serverId: ServerId;
  readonly gpus: readonly PlacedGpu[];
}

interface Candidate {
  readonly gpu: GpuCapacity;
  readonly limit: number | null;
  /** What to keep small: the free rest beside a slice, or the size of a GPU that is taken whole. */
  readonly leftover: number;
}

export function place(wish: Wish, servers: readonly ServerCapacity[]): Placement | undefined {
  let best: { placement: Placement; leftover: number } | undefined;
  for (const server of servers) {
    if (!server.accepts || wish.only?.has(server.id) === false) continue;
    const chosen = choose(wish, server);
    if (chosen === undefined) continue;
    const leftover = leftoverOf(server, chosen);
    if (best !== undefined && leftover >= best.leftover) continue;
    best = {
      leftover,
      placement: {
        serverId: server.id,
        gpus: chosen.map(({ gpu, limit }) => ({ uuid: gpu.uuid, memoryLimitBytes: limit })),
      },
    };
  }
  return best?.placement;
}

/** Could the pool grant it if nobody else used it? */
export function fitsEver(wish: Wish, servers: readonly ServerCapacity[]): boolean {
  return servers.some((server) => fitsServerEver(wish, server));
}

export function fitsServerEver(wish: Wish, server: ServerCapacity): boolean {
  if (wish.only?.has(server.id) === false) return false;
  return server.gpus.filter((gpu) => limitOn(gpu, wish.size) !== undefined).length >= wish.count;
}

function choose({ count, size }: Wish, server: ServerCapacity): readonly Candidate[] | undefined {
  const candidates: Candidate[] = [];
  for (const gpu of server.gpus) {
    const limit = limitOn(gpu, size);
    if (limit === undefined || !fitsOn(gpu, limit)) continue;
    candidates.push({ gpu, limit, leftover: limit === null ? gpu.totalBytes : freeBytes(gpu) - limit });
  }
  if (candidates.length < count) return undefined;
  candidates.sort((a, b) => a.leftover - b.leftover || a.gpu.index - b.gpu.index);
  return candidates.slice(0, count).toSorted((a, b) => a.gpu.index - b.gpu.index);
}

/** What is left on the server, and twice what is broken up: an unused GPU is worth more than its memory. */
function leftoverOf(server: ServerCapacity, chosen: readonly Candidate[]): number {
  const taken = new Set(chosen.map(({ gpu }) => gpu));
  const untouched = server.gpus
    .filter((gpu) => !taken.has(gpu))
    .reduce((sum, gpu) => sum + freeBytes(gpu), 0);
  const rests = chosen.map(({ gpu, limit, leftover }) => {
    if (limit === null) return 0;
    return leftover + (isUnused(gpu) ? gpu.totalBytes : 0);
  });
  return rests.reduce((sum, rest) => sum + rest, untouched);
}

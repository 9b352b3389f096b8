import type { Size } from "@farpool/contract";
import { limitOn, type ServerCapacity } from "./capacity.ts";
import { matchesAll } from "./filters.ts";
import type { PoolIndex } from "./pool-index.ts";
import type { Placement, PlacedGpu, Wish } from "./wish.ts";

/**
 * Placement: which GPUs a session gets. All of them on one server unless several are allowed, all together or
 * none. Best fit: the GPUs that leave the least unused, so that large free pieces stay large.
 */

/** GPUs that are kept for others: `until[gpu]` is when they will need it, Infinity where nobody does. */
export interface Kept {
  readonly until: Float64Array;
  /** When the session that is placed will be gone at the latest; Infinity: nobody knows. */
  readonly goneMs: number;
}

interface Candidate {
  readonly gpu: number;
  readonly limit: number | null;
  /** What to keep small: the free rest beside a slice, or the size of a GPU that is taken whole. */
  readonly leftover: number;
}

export function place(wish: Wish, index: PoolIndex, kept?: Kept): Placement | undefined {
  const search: Search = { wish, index, kept, mask: index.maskOf(wish.filters ?? []) };
  return (
    placePreferred(search) ?? placeTogether(search) ?? (wish.spreadServers ? placeSpread(search) : undefined)
  );
}

interface Search {
  readonly wish: Wish;
  readonly index: PoolIndex;
  readonly kept: Kept | undefined;
  readonly mask: Uint8Array | null;
}

/** Could the pool grant it if nobody else used it? */
export function fitsEver(wish: Wish, servers: readonly ServerCapacity[]): boolean {
  if (wish.spreadServers !== true) return servers.some((server) => fitsServerEver(wish, server));
  return servers.reduce((sum, server) => sum + countEver(wish, server), 0) >= wish.count;
}

export function fitsServerEver(wish: Wish, server: ServerCapacity): boolean {
  return countEver(wish, server) >= wish.count;
}

/** How many GPUs of this kind the server has, whoever uses them. */
export function countEver({ size, filters = [] }: Wish, server: ServerCapacity): number {
  return server.gpus.filter((gpu) => limitOn(gpu, size) !== undefined && matchesAll(filters, server, gpu))
    .length;
}

/** Where the same one had its GPUs lately, if all of that is free. */
function placePreferred(search: Search): Placement | undefined {
  const { wish, index } = search;
  const { preferred = [], count } = wish;
  if (preferred.length < count) return undefined;
  const chosen: Candidate[] = [];
  for (const uuid of preferred.slice(0, count)) {
    const gpu = index.gpuIndex(uuid);
    if (gpu === undefined || index.servers[index.serverOf[gpu] ?? -1]?.accepts !== true) return undefined;
    const candidate = candidateOn(gpu, search);
    if (candidate === undefined) return undefined;
    chosen.push(candidate);
  }
  const servers = new Set(chosen.map(({ gpu }) => index.serverOf[gpu]));
  return servers.size > 1 && wish.spreadServers !== true ? undefined : toPlacement(chosen, index);
}

function placeTogether(search: Search): Placement | undefined {
  const { wish, index } = search;
  let best: { chosen: readonly Candidate[]; leftover: number } | undefined;
  for (let server = 0; server < index.servers.length; server += 1) {
    if (!mayHold(server, wish, index)) continue;
    const least = (index.freeOnServer[server] ?? 0) - wish.count * (index.largestOnServer[server] ?? 0);
    if (best !== undefined && least >= best.leftover) continue;
    const chosen = choose(server, search, wish.count);
    if (chosen.length < wish.count) continue;
    const leftover = leftoverOf(server, chosen, index);
    if (best === undefined || leftover < best.leftover) best = { chosen, leftover };
    // Nothing leaves less than nothing.
    if (leftover === 0) break;
  }
  return best === undefined ? undefined : toPlacement(best.chosen, index);
}

/** What the sums of a server say, without a look at its GPUs. */
function mayHold(server: number, { count, size }: Wish, index: PoolIndex): boolean {
  if (index.servers[server]?.accepts !== true) return false;
  switch (size.kind) {
    case "whole":
      return (index.unusedOnServer[server] ?? 0) >= count;
    case "share":
    case "memory":
      return (index.largestFreeOnServer[server] ?? 0) >= smallestLimit(size);
  }
}

function smallestLimit(size: Size): number {
  return size.kind === "memory" ? size.memoryMib * 1024 * 1024 : 1;
}

/** As few servers as possible, and the last of them the one that is left with the least. */
function placeSpread(search: Search): Placement | undefined {
  const { wish, index } = search;
  const perServer: Array<readonly Candidate[]> = [];
  for (let server = 0; server < index.servers.length; server += 1) {
    if (index.servers[server]?.accepts !== true) continue;
    const chosen = choose(server, search, wish.count);
    if (chosen.length > 0) perServer.push(chosen);
  }
  perServer.sort((a, b) => b.length - a.length);
  const taken: Candidate[] = [];
  while (taken.length < wish.count && perServer.length > 0) {
    const missing = wish.count - taken.length;
    const lastFit = perServer.findLastIndex(({ length }) => length >= missing);
    const [next = []] = perServer.splice(Math.max(0, lastFit), 1);
    taken.push(...next.slice(0, missing));
  }
  return taken.length < wish.count ? undefined : toPlacement(taken, index);
}

/** The GPUs of a server that leave the least, at most `count` of them. */
function choose(server: number, search: Search, count: number): readonly Candidate[] {
  const { index } = search;
  const candidates: Candidate[] = [];
  for (let gpu = index.firstGpu[server] ?? 0; gpu < (index.firstGpu[server + 1] ?? 0); gpu += 1) {
    const candidate = candidateOn(gpu, search);
    if (candidate !== undefined) candidates.push(candidate);
  }
  if (candidates.length <= 1) return candidates;
  return candidates.sort((a, b) => a.leftover - b.leftover || a.gpu - b.gpu).slice(0, count);
}

function candidateOn(gpu: number, { wish, index, kept, mask }: Search): Candidate | undefined {
  if (mask !== null && mask[gpu] !== 1) return undefined;
  if (kept !== undefined && kept.goneMs > (kept.until[gpu] ?? Infinity)) return undefined;
  const capacity = index.gpus[gpu];
  if (capacity === undefined) return undefined;
  const limit = limitOn(capacity, wish.size);
  if (limit === undefined) return undefined;
  if (limit === null) {
    return index.isUnused[gpu] === 1 ? { gpu, limit, leftover: capacity.totalBytes } : undefined;
  }
  const leftover = (index.free[gpu] ?? 0) - limit;
  return leftover >= 0 ? { gpu, limit, leftover } : undefined;
}

/** What is left on the server, and what is broken up: an unused GPU is worth more than its memory. */
function leftoverOf(server: number, chosen: readonly Candidate[], index: PoolIndex): number {
  let left = index.freeOnServer[server] ?? 0;
  for (const { gpu, limit, leftover } of chosen) {
    left -= index.free[gpu] ?? 0;
    if (limit === null) continue;
    left += leftover + (index.isUnused[gpu] === 1 ? (index.gpus[gpu]?.totalBytes ?? 0) : 0);
  }
  return left;
}

function toPlacement(chosen: readonly Candidate[], index: PoolIndex): Placement {
  const perServer = new Map<number, PlacedGpu[]>();
  for (const { gpu, limit } of [...chosen].sort((a, b) => a.gpu - b.gpu)) {
    const server = index.serverOf[gpu] ?? 0;
    const list = perServer.get(server) ?? [];
    perServer.set(server, list);
    const uuid = index.gpus[gpu]?.uuid;
    if (uuid !== undefined) list.push({ uuid, memoryLimitBytes: limit });
  }
  const servers = [...perServer].flatMap(([server, gpus]) => {
    const id = index.servers[server]?.id;
    return id === undefined ? [] : [{ serverId: id, gpus }];
  });
  return { servers };
}

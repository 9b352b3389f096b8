import type { Size } from "@farpool/contract";
import { limitOn, type ServerCapacity } from "./capacity.ts";
import { matchesAll } from "./filters.ts";
import type { PoolIndex } from "./pool-index.ts";
import { mayBeSpread, MOST_SERVERS, type Placement, type PlacedGpu, type Wish } from "./wish.ts";

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

export function place(wish: Wish, index: PoolIndex, kept?: Kept): Placement | undefined {
  const search: Search = { wish, index, kept, mask: index.maskOf(wish) };
  const together = placePreferred(search) ?? placeTogether(search);
  if (together !== undefined || !mayBeSpread(wish)) return together;
  return placePreferred(search, true) ?? placeSpread(search);
}

interface Search {
  readonly wish: Wish;
  readonly index: PoolIndex;
  readonly kept: Kept | undefined;
  readonly mask: Uint8Array | null;
}

/** Could the pool grant it if nobody else used it? */
export function fitsEver(wish: Wish, servers: readonly ServerCapacity[]): boolean {
  if (!mayBeSpread(wish)) return servers.some((server) => fitsServerEver(wish, server));
  const counts = servers.map((server) => countEver(wish, server)).sort((a, b) => b - a);
  return counts.slice(0, MOST_SERVERS).reduce((sum, count) => sum + count, 0) >= wish.count;
}

export function fitsServerEver(wish: Wish, server: ServerCapacity): boolean {
  return countEver(wish, server) >= wish.count;
}

/** How many GPUs of this kind the server has, whoever uses them. */
export function countEver({ size, filters = [], only }: Wish, server: ServerCapacity): number {
  if (only?.has(server.id) === false) return 0;
  return server.gpus.filter((gpu) => limitOn(gpu, size) !== undefined && matchesAll(filters, server, gpu))
    .length;
}

/** Where the same one had its GPUs lately, if all of that is free. */
function placePreferred(search: Search, isSpread = false): Placement | undefined {
  const { wish, index } = search;
  const { preferred = [], count } = wish;
  if (preferred.length < count) return undefined;
  const chosen: number[] = [];
  for (const uuid of preferred.slice(0, count)) {
    const gpu = index.gpuIndex(uuid);
    if (gpu === undefined || index.servers[index.serverOf[gpu] ?? -1]?.accepts !== true) return undefined;
    if (leftoverOn(gpu, search) < 0) return undefined;
    chosen.push(gpu);
  }
  const servers = new Set(chosen.map((gpu) => index.serverOf[gpu]));
  return servers.size > (isSpread ? MOST_SERVERS : 1) ? undefined : toPlacement(chosen, search);
}

function placeTogether(search: Search): Placement | undefined {
  const { wish, index } = search;
  const best = new Best(wish.count);
  for (let server = 0; server < index.servers.length; server += 1) {
    if (!mayHold(server, wish, index)) continue;
    if (leastLeft(server, wish, index) >= best.score) continue;
    best.begin();
    for (let gpu = index.firstGpu[server] ?? 0; gpu < (index.firstGpu[server + 1] ?? 0); gpu += 1) {
      const leftover = leftoverOn(gpu, search);
      if (leftover >= 0) best.offer(gpu, leftover);
    }
    if (!best.isComplete) continue;
    best.compare(best.gpus.reduce((sum, gpu) => sum - costOn(gpu, search), index.freeOnServer[server] ?? 0));
    // Nothing leaves less than nothing.
    if (best.score === 0) break;
  }
  return best.chosen === undefined ? undefined : toPlacement(best.chosen, search);
}

/** The GPUs of a server that leave the least, and those of the best server so far; makes nothing new while it looks. */
class Best {
  score = Infinity;
  chosen: number[] | undefined;
  readonly gpus: number[] = [];
  private readonly leftovers: number[] = [];
  private readonly count: number;

  constructor(count: number) {
    this.count = count;
  }

  get isComplete(): boolean {
    return this.gpus.length === this.count;
  }

  begin(): void {
    this.gpus.length = 0;
    this.leftovers.length = 0;
  }

  offer(gpu: number, leftover: number): void {
    const { gpus, leftovers } = this;
    if (this.isComplete) {
      if (leftover >= (leftovers.at(-1) ?? 0)) return;
      gpus.pop();
      leftovers.pop();
    }
    let place = gpus.length;
    while (place > 0 && (leftovers[place - 1] ?? 0) > leftover) {
      gpus[place] = gpus[place - 1] ?? gpu;
      leftovers[place] = leftovers[place - 1] ?? leftover;
      place -= 1;
    }
    gpus[place] = gpu;
    leftovers[place] = leftover;
  }

  compare(score: number): void {
    if (score >= this.score) return;
    this.score = score;
    this.chosen = [...this.gpus];
  }
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

/** What will be left on a server at least, from its sums. */
function leastLeft(server: number, { count, size }: Wish, index: PoolIndex): number {
  const free = index.freeOnServer[server] ?? 0;
  const largest = index.largestOnServer[server] ?? 0;
  const isNothingBroken = (index.unusedOnServer[server] ?? 0) * largest === free;
  // Slices would break up unused GPUs, which are all alike.
  if (size.kind !== "whole" && isNothingBroken)
    return free + count * (largest - (limitOn({ totalBytes: largest }, size) ?? largest));
  return free - count * largest;
}

function smallestLimit(size: Size): number {
  return size.kind === "memory" ? size.memoryMib * 1024 * 1024 : 1;
}

/** As few servers as possible, and the last of them the one that is left with the least. */
function placeSpread(search: Search): Placement | undefined {
  const { wish, index } = search;
  const perServer: Array<readonly number[]> = [];
  for (let server = 0; server < index.servers.length; server += 1) {
    if (index.servers[server]?.accepts !== true) continue;
    const chosen = choose(server, search);
    if (chosen.length > 0) perServer.push(chosen);
  }
  perServer.sort((a, b) => b.length - a.length);
  const taken: number[] = [];
  for (
    let servers = 0;
    servers < MOST_SERVERS && taken.length < wish.count && perServer.length > 0;
    servers += 1
  ) {
    const missing = wish.count - taken.length;
    const lastFit = perServer.findLastIndex(({ length }) => length >= missing);
    const [next = []] = perServer.splice(Math.max(0, lastFit), 1);
    taken.push(...next.slice(0, missing));
  }
  return taken.length < wish.count ? undefined : toPlacement(taken, search);
}

/** The GPUs of a server that a wish could have, those first that leave the least. */
function choose(server: number, search: Search): readonly number[] {
  const { gpusOfServer } = search.index;
  return (gpusOfServer[server] ?? [])
    .map((gpu) => ({ gpu, leftover: leftoverOn(gpu, search) }))
    .filter(({ leftover }) => leftover >= 0)
    .sort((a, b) => a.leftover - b.leftover || a.gpu - b.gpu)
    .map(({ gpu }) => gpu);
}

/** What to keep small: the free rest beside a slice, or the size of a GPU that is taken whole; below 0: no room. */
function leftoverOn(gpu: number, { wish, index, kept, mask }: Search): number {
  if (mask !== null && mask[gpu] !== 1) return -1;
  if (kept !== undefined && kept.goneMs > (kept.until[gpu] ?? Infinity)) return -1;
  const capacity = index.gpus[gpu];
  const limit = capacity === undefined ? undefined : limitOn(capacity, wish.size);
  if (capacity === undefined || limit === undefined) return -1;
  if (limit === null) return index.isUnused[gpu] === 1 ? capacity.totalBytes : -1;
  return (index.free[gpu] ?? 0) - limit;
}

/** By how much less is left on a server that gives this GPU: one that is broken up is worth more than its memory. */
function costOn(gpu: number, { wish, index }: Search): number {
  const capacity = index.gpus[gpu];
  const limit = capacity === undefined ? undefined : limitOn(capacity, wish.size);
  if (capacity === undefined || limit === undefined) return 0;
  if (limit === null) return index.free[gpu] ?? 0;
  return limit - (index.isUnused[gpu] === 1 ? capacity.totalBytes : 0);
}

function toPlacement(chosen: readonly number[], { wish, index }: Search): Placement {
  const perServer = new Map<number, PlacedGpu[]>();
  for (const gpu of [...chosen].sort((a, b) => a - b)) {
    const server = index.serverOf[gpu] ?? 0;
    const list = perServer.get(server) ?? [];
    perServer.set(server, list);
    const capacity = index.gpus[gpu];
    if (capacity === undefined) continue;
    list.push({ uuid: capacity.uuid, memoryLimitBytes: limitOn(capacity, wish.size) ?? null });
  }
  const servers = [...perServer].flatMap(([server, gpus]) => {
    const id = index.servers[server]?.id;
    return id === undefined ? [] : [{ serverId: id, gpus }];
  });
  return { servers };
}

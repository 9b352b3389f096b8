import type { GpuUuid, ServerId, SessionId } from "@farpool/contract";
import { freeBytes, isUnused, shareOf, type GpuCapacity, type ServerCapacity } from "./capacity.ts";
import { matchesAll } from "./filters.ts";
import { maskKey, type Placement, type RunningSession, type Wish } from "./wish.ts";

/** Who is on a GPU. Sessions that have ended but are not gone yet have no end of their own: they go any moment. */
export interface Occupant {
  readonly limitBytes: number | null;
  readonly session: Pick<RunningSession, "id" | "grantedAtMs" | "maxDurationMs"> | null;
}

/**
 * The GPUs of a pool in flat arrays, with sums per server, kept up to date while sessions come and go. A placement
 * looks at every server's sums and at the GPUs of few servers only.
 */
export class PoolIndex {
  readonly servers: readonly ServerCapacity[];
  readonly gpus: readonly GpuCapacity[];
  /** GPUs of server `s` are those from `firstGpu[s]` up to `firstGpu[s + 1]`. */
  readonly firstGpu: Int32Array;
  readonly gpusOfServer: ReadonlyArray<readonly number[]>;
  readonly serverOf: Int32Array;
  /** Bytes that slices may still take. */
  readonly free: Float64Array;
  readonly isUnused: Uint8Array;
  readonly occupants: Occupant[][];
  readonly unusedOnServer: Int32Array;
  readonly freeOnServer: Float64Array;
  readonly largestFreeOnServer: Float64Array;
  /** Of a server's GPUs the memory of the largest. */
  readonly largestOnServer: Float64Array;
  private readonly gpuByUuid: ReadonlyMap<GpuUuid, number>;
  private readonly serverById: ReadonlyMap<ServerId, number>;
  private readonly masks = new Map<string, Uint8Array | null>();

  constructor(servers: readonly ServerCapacity[], running: readonly RunningSession[] = []) {
    this.servers = servers;
    this.gpus = servers.flatMap((server) => server.gpus);
    this.firstGpu = new Int32Array(servers.length + 1);
    this.serverOf = new Int32Array(this.gpus.length);
    this.free = new Float64Array(this.gpus.length);
    this.isUnused = new Uint8Array(this.gpus.length);
    this.unusedOnServer = new Int32Array(servers.length);
    this.freeOnServer = new Float64Array(servers.length);
    this.largestFreeOnServer = new Float64Array(servers.length);
    this.largestOnServer = new Float64Array(servers.length);
    this.gpuByUuid = new Map(this.gpus.map((gpu, index) => [gpu.uuid, index]));
    this.serverById = new Map(servers.map(({ id }, index) => [id, index]));
    const sessions = sessionsByGpu(running);
    this.occupants = this.gpus.map((gpu) => {
      const there = sessions.get(gpu.uuid) ?? [];
      return gpu.slices.map((limitBytes) => {
        const place = there.findIndex((each) => each.limitBytes === limitBytes);
        const [found] = place === -1 ? [] : there.splice(place, 1);
        return { limitBytes, session: found?.session ?? null };
      });
    });
    let next = 0;
    const gpusOfServer: number[][] = [];
    for (const [place, server] of servers.entries()) {
      this.firstGpu[place] = next;
      gpusOfServer.push(server.gpus.map((_, gpu) => next + gpu));
      for (const gpu of server.gpus) {
        this.serverOf[next] = place;
        this.free[next] = freeBytes(gpu);
        this.isUnused[next] = isUnused(gpu) ? 1 : 0;
        this.largestOnServer[place] = Math.max(this.largestOnServer[place] ?? 0, gpu.totalBytes);
        next += 1;
      }
      this.firstGpu[place + 1] = next;
      this.sum(place);
    }
    this.gpusOfServer = gpusOfServer;
  }

  gpuIndex(uuid: GpuUuid): number | undefined {
    return this.gpuByUuid.get(uuid);
  }

  serverIndex(id: ServerId): number | undefined {
    return this.serverById.get(id);
  }

  gpuIndexes(placement: Placement): number[] {
    return [...this.gpusOf(placement)].map(({ gpu }) => gpu);
  }

  /** Sessions have been granted their GPUs. */
  occupy(session: RunningSession): void {
    for (const { gpu, limitBytes } of this.gpusOf(session.placement)) {
      this.occupants[gpu]?.push({ limitBytes, session });
      this.refresh(gpu);
    }
    this.sumAll(session.placement);
  }

  /** The GPUs of a session are free again. */
  vacate(id: SessionId, placement: Placement): void {
    for (const { gpu } of this.gpusOf(placement)) {
      const there = this.occupants[gpu] ?? [];
      const place = there.findIndex(({ session }) => session?.id === id);
      if (place !== -1) there.splice(place, 1);
      this.refresh(gpu);
    }
    this.sumAll(placement);
  }

  /** Which GPUs will do, one byte each; null: all of them. */
  maskOf(wish: Pick<Wish, "filters" | "only">): Uint8Array | null {
    const key = maskKey(wish);
    if (key === "") return null;
    const { filters = [], only } = wish;
    const known = this.masks.get(key);
    if (known !== undefined) return known;
    const mask = new Uint8Array(this.gpus.length);
    let next = 0;
    for (const server of this.servers) {
      const isOut = only?.has(server.id) === false;
      for (const gpu of server.gpus) {
        mask[next] = !isOut && matchesAll(filters, server, gpu) ? 1 : 0;
        next += 1;
      }
    }
    this.masks.set(key, mask);
    return mask;
  }

  /** How many GPUs a placement is, slices as what they are of a GPU. */
  shareOf({ servers }: Placement): number {
    let sum = 0;
    for (const { gpus } of servers) {
      for (const { uuid, memoryLimitBytes } of gpus) {
        const gpu = this.gpus[this.gpuByUuid.get(uuid) ?? -1];
        if (gpu !== undefined) sum += shareOf(gpu.totalBytes, memoryLimitBytes);
      }
    }
    return sum;
  }

  private *gpusOf({ servers }: Placement): Generator<{ gpu: number; limitBytes: number | null }> {
    for (const { gpus } of servers) {
      for (const { uuid, memoryLimitBytes } of gpus) {
        const gpu = this.gpuByUuid.get(uuid);
        if (gpu !== undefined) yield { gpu, limitBytes: memoryLimitBytes };
      }
    }
  }

  private refresh(gpu: number): void {
    const there = this.occupants[gpu] ?? [];
    const slices = there.map(({ limitBytes }) => limitBytes);
    this.free[gpu] = freeBytes({ totalBytes: this.gpus[gpu]?.totalBytes ?? 0, slices });
    this.isUnused[gpu] = there.length === 0 ? 1 : 0;
  }

  private sumAll({ servers }: Placement): void {
    for (const { serverId } of servers) {
      const place = this.serverById.get(serverId);
      if (place !== undefined) this.sum(place);
    }
  }

  private sum(server: number): void {
    let [unused, free, largest] = [0, 0, 0];
    for (let gpu = this.firstGpu[server] ?? 0; gpu < (this.firstGpu[server + 1] ?? 0); gpu += 1) {
      unused += this.isUnused[gpu] ?? 0;
      free += this.free[gpu] ?? 0;
      largest = Math.max(largest, this.free[gpu] ?? 0);
    }
    this.unusedOnServer[server] = unused;
    this.freeOnServer[server] = free;
    this.largestFreeOnServer[server] = largest;
  }
}

function sessionsByGpu(running: readonly RunningSession[]) {
  const byGpu = new Map<GpuUuid, Array<{ limitBytes: number | null; session: RunningSession }>>();
  for (const session of running) {
    for (const { gpus } of session.placement.servers) {
      for (const { uuid, memoryLimitBytes } of gpus) {
        const list = byGpu.get(uuid) ?? [];
        byGpu.set(uuid, list);
        list.push({ limitBytes: memoryLimitBytes, session });
      }
    }
  }
  return byGpu;
}

import type { Filter, GpuUuid, ServerId, SessionId, Size } from "@farpool/contract";

/** What a session asks for. */
export interface Wish {
  readonly count: number;
  readonly size: Size;
  readonly filters?: readonly Filter[];
  /** GPUs on several servers will do. */
  readonly spreadServers?: boolean;
  /** GPUs that are taken before others when they are free: those that the same one had lately. */
  readonly preferred?: readonly GpuUuid[];
}

export interface PlacedGpu {
  readonly uuid: GpuUuid;
  readonly memoryLimitBytes: number | null;
}

export interface PlacedServer {
  readonly serverId: ServerId;
  readonly gpus: readonly PlacedGpu[];
}

/** All GPUs of a session: of one server, unless several were allowed. */
export interface Placement {
  readonly servers: readonly PlacedServer[];
}

export interface WaitingSession extends Wish {
  readonly id: SessionId;
  /** Whose fair share it counts against. */
  readonly user: string;
  readonly priority: number;
  /** Who came first has the smaller one. */
  readonly queueNumber: number;
  readonly requestedAtMs: number;
  /** It ends by then at the latest; null: nobody knows. */
  readonly maxDurationMs: number | null;
  /** Where an earlier pass kept GPUs for it. */
  readonly reservedOn?: ServerId | null;
}

export interface RunningSession {
  readonly id: SessionId;
  readonly grantedAtMs: number;
  readonly maxDurationMs: number | null;
  readonly placement: Placement;
}

const keys = new WeakMap<Wish, string>();

/** Equal for wishes that any free GPUs satisfy alike. */
export function shapeOf(wish: Wish): string {
  const known = keys.get(wish);
  if (known !== undefined) return known;
  const { count, size, filters = [], spreadServers = false } = wish;
  const amount = size.kind === "whole" ? "" : size.kind === "share" ? `p${size.share}` : `m${size.memoryMib}`;
  const key = `${count} ${amount} ${spreadServers ? "spread" : ""} ${filterKey(filters)}`;
  keys.set(wish, key);
  return key;
}

export function filterKey(filters: readonly Filter[]): string {
  return filters.map(({ text }) => text).join("\n");
}

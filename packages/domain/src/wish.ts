import type { Filter, GpuUuid, ServerId, SessionId, Size } from "@farpool/contract";

/** What a session asks for. */
export interface Wish {
  readonly count: number;
  readonly size: Size;
  readonly filters?: readonly Filter[];
  /** The servers it may be placed on; not there: any. Wishes with the same set share what is worked out for it. */
  readonly only?: ReadonlySet<ServerId>;
  /** GPUs on several servers will do. */
  readonly spreadServers?: boolean;
  /** GPUs that are taken before others when they are free: those that the same one had lately. */
  readonly preferred?: readonly GpuUuid[];
}

/** More than so many servers at a time a client process cannot be connected to (native/shim-cuda/src/servers.rs). */
export const MOST_SERVERS = 64;

/** Whether a wish may be spread: a single GPU is always on one server. */
export function mayBeSpread({ count, spreadServers }: Pick<Wish, "count" | "spreadServers">): boolean {
  return spreadServers === true && count > 1;
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
  /** Behind all others, whatever else it has: its budget is spent. */
  readonly isLast?: boolean;
  /** Where an earlier pass kept GPUs for it, of several servers on one of them. */
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
  const { count, size } = wish;
  const amount = size.kind === "whole" ? "" : size.kind === "share" ? `p${size.share}` : `m${size.memoryMib}`;
  const key = `${count} ${amount} ${mayBeSpread(wish) ? "spread" : ""} ${maskKey(wish)}`;
  keys.set(wish, key);
  return key;
}

const setNumbers = new WeakMap<ReadonlySet<ServerId>, number>();
let setCount = 0;

/** Equal for wishes that the same GPUs will do for; empty: all of them. */
export function maskKey({ filters = [], only }: Pick<Wish, "filters" | "only">): string {
  const filtered = filters.map(({ text }) => text).join("\n");
  if (only === undefined) return filtered;
  let number = setNumbers.get(only);
  if (number === undefined) {
    number = setCount += 1;
    setNumbers.set(only, number);
  }
  // No filter begins with a line's end.
  return `\n${number}\n${filtered}`;
}

import { formatRequest, type SessionId } from "@farpool/contract";
import type { ServerCapacity } from "./capacity.ts";
import { fitsServerEver, place, type Placement, type Wish } from "./placement.ts";

export interface QueuedWish extends Wish {
  readonly id: SessionId;
}

export type Decision =
  | { readonly id: SessionId; readonly kind: "grant"; readonly placement: Placement }
  | { readonly id: SessionId; readonly kind: "wait"; readonly position: number; readonly waitsFor: string };

/**
 * One scheduling pass, first come first served: a session that cannot be placed keeps the servers that
 * could ever hold it for itself, so smaller ones behind it never overtake it there.
 */
export function schedule(
  queue: readonly QueuedWish[],
  servers: readonly ServerCapacity[],
): readonly Decision[] {
  const decisions: Decision[] = [];
  let open = [...servers];
  let position = 0;
  for (const wish of queue) {
    const placement = place(wish, open);
    if (placement === undefined) {
      position += 1;
      decisions.push({ id: wish.id, kind: "wait", position, waitsFor: waitsFor(wish, servers, position) });
      open = open.filter((server) => !fitsServerEver(wish, server));
    } else {
      decisions.push({ id: wish.id, kind: "grant", placement });
      open = open.map((server) => (server.id === placement.serverId ? occupied(server, placement) : server));
    }
  }
  return decisions;
}

function waitsFor(wish: Wish, servers: readonly ServerCapacity[], position: number): string {
  const fitting = servers.filter((server) => fitsServerEver(wish, server));
  const what = formatRequest(wish.count, wish.size);
  if (fitting.length === 0) return `${what}: no server of the pool has that now`;
  if (fitting.every((server) => !server.accepts)) {
    const closed = fitting.flatMap(({ closedBecause }) => closedBecause ?? []);
    if (closed.length > 0) return `${what}: ${closed.join("; ")}`;
    return `${what}: ${fitting.length === 1 ? `the server ${fitting[0]?.name} does not answer` : "the servers that have it do not answer"}`;
  }
  return position === 1 ? `${what} to become free` : `${what}, after ${position - 1} before it`;
}

function occupied(server: ServerCapacity, placement: Placement): ServerCapacity {
  const limits = new Map(placement.gpus.map((gpu) => [gpu.uuid, gpu.memoryLimitBytes]));
  return {
    ...server,
    gpus: server.gpus.map((gpu) => {
      const limit = limits.get(gpu.uuid);
      return limit === undefined ? gpu : { ...gpu, slices: [...gpu.slices, limit] };
    }),
  };
}

import type { LabelRequirement, Labels, ServerId } from "@farpool/contract";
import { limitOn, matchesAll, type ServerCapacity, type Wish } from "@farpool/domain";
import { formatRequirements, meets } from "@farpool/policies";

/** What policies leave of the pool for one session; null is all. */
export interface PlacementLimits {
  readonly servers: readonly LabelRequirement[] | null;
  readonly memoryBytes: number | null;
}

type Sized = Pick<Wish, "count" | "size" | "filters">;
export type Allowed = (wish: Sized, limits: PlacementLimits) => ReadonlySet<ServerId> | undefined;

/**
 * Tells for each session on which servers it may be placed; undefined: on all. Sessions of the same kind with the same
 * limits get the same set, so that placement works out once what it means.
 */
export function allowedServers(servers: readonly ServerCapacity[]): Allowed {
  const known = new Map<string, ReadonlySet<ServerId>>();
  return (wish, limits) => {
    if (limits.servers === null && limits.memoryBytes === null) return undefined;
    const key = keyOf(wish, limits);
    let allowed = known.get(key);
    if (allowed === undefined) {
      const fitting = servers.filter(
        (server) =>
          meets(labelsOf(server), limits.servers ?? []) &&
          (limits.memoryBytes === null || mostMemory(wish, server) <= limits.memoryBytes),
      );
      allowed = new Set(fitting.map(({ id }) => id));
      known.set(key, allowed);
    }
    return allowed;
  };
}

/** The wish with the servers that policies leave it. */
export function withinLimits<W extends Sized>(
  wish: W,
  limits: PlacementLimits,
  allowed: Allowed,
): W & Pick<Wish, "only"> {
  const only = allowed(wish, limits);
  return only === undefined ? wish : { ...wish, only };
}

/** The size only matters where memory is limited. */
function keyOf({ count, size, filters = [] }: Sized, { servers, memoryBytes }: PlacementLimits): string {
  const what = memoryBytes === null ? "" : [count, ...filters.map(({ text }) => text)].join("\n");
  return JSON.stringify([
    formatRequirements(servers ?? []),
    memoryBytes,
    what,
    memoryBytes === null ? null : size,
  ]);
}

/** The most memory that a session could take there: which GPUs it gets is placement's affair. */
export function mostMemory({ count, size, filters = [] }: Sized, server: ServerCapacity): number {
  const limits = server.gpus.flatMap((gpu) => {
    const limit = limitOn(gpu, size);
    return limit === undefined || !matchesAll(filters, server, gpu) ? [] : [limit ?? gpu.totalBytes];
  });
  return count * Math.max(0, ...limits);
}

/** What can be told of every server, and what it and administrators call it. */
function labelsOf({ name, facts }: ServerCapacity): Labels {
  return {
    ...facts?.labels,
    name,
    ...(typeof facts?.cudaVersion === "string" && { driver: facts.cudaVersion }),
    simulated: facts?.isSimulated === true ? "yes" : "no",
  };
}

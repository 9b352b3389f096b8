import type { LabelRequirement, Labels, ServerId } from "@farpool/contract";
import { limitOn, type ServerCapacity, type Wish } from "@farpool/domain";
import { meets } from "@farpool/policies";
import type { Database } from "../database/connect.ts";

/** What policies leave of the pool for one session; null is all. */
export interface PlacementLimits {
  readonly servers: readonly LabelRequirement[] | null;
  readonly memoryBytes: number | null;
}

type Allowed = (
  wish: Pick<Wish, "count" | "size">,
  limits: PlacementLimits,
) => ReadonlySet<ServerId> | undefined;

interface Restricted {
  readonly servers_allowed: readonly LabelRequirement[] | null;
}

/** Tells for each session on which servers it may be placed; undefined: on all. Labels are read only if they matter. */
export async function allowedServers(
  db: Database,
  waiting: readonly Restricted[],
  servers: readonly ServerCapacity[],
): Promise<Allowed> {
  const matter = waiting.some((session) => session.servers_allowed !== null);
  const labels = matter ? await readLabels(db) : new Map<ServerId, Labels>();
  return (wish, limits) => {
    if (limits.servers === null && limits.memoryBytes === null) return undefined;
    const fitting = servers.filter(
      (server) =>
        meets(labels.get(server.id) ?? {}, limits.servers ?? []) &&
        mostMemory(wish, server) <= (limits.memoryBytes ?? Number.POSITIVE_INFINITY),
    );
    return new Set(fitting.map(({ id }) => id));
  };
}

/** The most memory that a session could take there: which GPUs it gets is placement's affair. */
export function mostMemory(
  { count, size }: Pick<Wish, "count" | "size">,
  { gpus }: Pick<ServerCapacity, "gpus">,
): number {
  const limits = gpus.flatMap((gpu) => {
    const limit = limitOn(gpu, size);
    return limit === undefined ? [] : [limit ?? gpu.totalBytes];
  });
  return count * Math.max(0, ...limits);
}

/** What can be told of every server. */
async function readLabels(db: Database): Promise<ReadonlyMap<ServerId, Labels>> {
  const rows = await db.selectFrom("servers").select(["id", "name", "driver_version", "simulated"]).execute();
  return new Map(
    rows.map((row) => [
      row.id,
      { name: row.name, driver: row.driver_version, simulated: row.simulated ? "yes" : "no" },
    ]),
  );
}

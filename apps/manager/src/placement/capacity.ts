import { TIMES, type GpuUuid } from "@farpool/contract";
import type { GpuCapacity, ServerCapacity } from "@farpool/domain";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import { closedBecause } from "../servers/closed.ts";

/** Every server with its GPUs and what is taken of them, as placement wants to see it. */
export async function readCapacity(db: Database): Promise<readonly ServerCapacity[]> {
  const [servers, gpus, taken] = await Promise.all([
    db
      .selectFrom("servers")
      .select(["id", "name", "acceptor_ready"])
      .select(closedBecause().as("closed_because"))
      .select(
        sql<boolean>`last_seen_at > clock_timestamp() - ${TIMES.serverSilentMs} * interval '1 millisecond'`.as(
          "is_heard",
        ),
      )
      .orderBy("name")
      .execute(),
    db.selectFrom("gpus").selectAll().where("present", "=", true).orderBy("index").execute(),
    db
      .selectFrom("session_gpus")
      .select(["gpu_uuid", "memory_limit_bytes"])
      .where("released_at", "is", null)
      .execute(),
  ]);
  const slices = new Map<GpuUuid, Array<number | null>>();
  for (const { gpu_uuid: uuid, memory_limit_bytes: limit } of taken) {
    const list = slices.get(uuid);
    if (list === undefined) slices.set(uuid, [limit]);
    else list.push(limit);
  }
  return servers.map((server) => ({
    id: server.id,
    name: server.name,
    accepts: server.is_heard && server.acceptor_ready && server.closed_because === null,
    closedBecause: server.closed_because,
    gpus: gpus
      .filter((gpu) => gpu.server_id === server.id)
      .map((gpu): GpuCapacity => ({
        uuid: gpu.uuid,
        name: gpu.name,
        index: gpu.index,
        totalBytes: gpu.memory_total_bytes,
        slices: slices.get(gpu.uuid) ?? [],
      })),
  }));
}

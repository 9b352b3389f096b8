import { formatGpus, type ServerId, type SessionId } from "@farpool/contract";
import { schedule, toPart, type Placement, type ServerCapacity } from "@farpool/domain";
import { announce } from "../database/changes.ts";
import { now, type Tx } from "../database/connect.ts";
import { recordEvent } from "../sessions/events.ts";
import { readCapacity } from "./capacity.ts";

/**
 * One scheduling pass over all that wait. The caller holds the placement lock: a session that finds
 * room is granted in the transaction that inserted it.
 */
export async function runPlacementPass(tx: Tx): Promise<void> {
  const waiting = await tx
    .selectFrom("sessions")
    .select(["id", "state", "requested_count", "size", "queue_position", "waits_for"])
    .where("state", "in", ["requested", "queued"])
    .orderBy("queue_number")
    .execute();
  if (waiting.length === 0) return;
  const servers = await readCapacity(tx);
  const decisions = schedule(
    waiting.map((session) => ({ id: session.id, count: session.requested_count, size: session.size })),
    servers,
  );
  const known = new Map(waiting.map((session) => [session.id, session]));
  for (const decision of decisions) {
    if (decision.kind === "grant") {
      await grant(tx, decision.id, decision.placement, servers);
      continue;
    }
    const before = known.get(decision.id);
    if (before?.queue_position === decision.position && before.waits_for === decision.waitsFor) continue;
    await tx
      .updateTable("sessions")
      .set((eb) => ({
        state: "queued",
        queue_position: decision.position,
        waits_for: decision.waitsFor,
        revision: eb("revision", "+", 1),
      }))
      .where("id", "=", decision.id)
      .execute();
    if (before?.state === "requested") {
      await recordEvent(tx, decision.id, "queued", `position ${decision.position}, waits for ${decision.waitsFor}`);
    }
    await announce(tx, `session/${decision.id}`);
  }
}

async function grant(tx: Tx, id: SessionId, placement: Placement, servers: readonly ServerCapacity[]): Promise<void> {
  const { serverId, gpus } = placement;
  await tx
    .updateTable("sessions")
    .set((eb) => ({
      state: "granted",
      server_id: serverId,
      granted_at: now(),
      queue_position: null,
      waits_for: null,
      revision: eb("revision", "+", 1),
    }))
    .where("id", "=", id)
    .execute();
  await tx
    .insertInto("session_gpus")
    .values(
      gpus.map((gpu, ordinal) => ({
        session_id: id,
        ordinal,
        gpu_uuid: gpu.uuid,
        memory_limit_bytes: gpu.memoryLimitBytes,
        released_at: null,
      })),
    )
    .execute();
  await bumpDesired(tx, serverId);
  const server = servers.find((candidate) => candidate.id === serverId);
  const parts = gpus.flatMap(({ uuid, memoryLimitBytes }) => {
    const gpu = server?.gpus.find((candidate) => candidate.uuid === uuid);
    return gpu === undefined ? [] : [toPart(gpu, memoryLimitBytes)];
  });
  await recordEvent(tx, id, "granted", `${formatGpus(parts)} on ${server?.name ?? serverId}`);
  await announce(tx, `session/${id}`);
}

/** The set of sessions a server has to hold changed; returns the revision from which on that is so. */
export async function bumpDesired(tx: Tx, serverId: ServerId): Promise<number> {
  const { desired_revision: revision } = await tx
    .updateTable("servers")
    .set((eb) => ({ desired_revision: eb("desired_revision", "+", 1) }))
    .where("id", "=", serverId)
    .returning("desired_revision")
    .executeTakeFirstOrThrow();
  await announce(tx, `server/${serverId}`);
  return revision;
}

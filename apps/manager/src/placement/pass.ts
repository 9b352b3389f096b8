import { formatGpus, type ServerId } from "@farpool/contract";
import { schedule, toPart, type Decision, type ServerCapacity } from "@farpool/domain";
import { announce } from "../database/changes.ts";
import { now, type Tx } from "../database/connect.ts";
import { recordEvent } from "../sessions/events.ts";
import { allowedServers } from "../policies/allowed-servers.ts";
import { readCapacity } from "./capacity.ts";

/**
 * One scheduling pass over all that wait. The caller holds the placement lock: a session that finds
 * room is granted in the transaction that inserted it.
 */
export async function runPlacementPass(tx: Tx): Promise<void> {
  const waiting = await tx
    .selectFrom("sessions")
    .select(["id", "state", "requested_count", "size", "queue_position", "waits_for"])
    .select(["servers_allowed", "memory_allowed_bytes"])
    .where("state", "in", ["requested", "queued"])
    .orderBy("over_budget")
    .orderBy("queue_number")
    .execute();
  if (waiting.length === 0) return;
  const servers = await readCapacity(tx);
  const allowed = await allowedServers(tx, waiting, servers);
  const decisions = schedule(
    waiting.map((session) => {
      const wish = { id: session.id, count: session.requested_count, size: session.size };
      const only = allowed(wish, {
        servers: session.servers_allowed,
        memoryBytes: session.memory_allowed_bytes,
      });
      return only === undefined ? wish : { ...wish, only };
    }),
    servers,
  );
  const known = new Map(waiting.map((session) => [session.id, session]));
  for (const decision of decisions) {
    if (decision.kind === "grant") {
      await grant(tx, decision, servers);
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
      await recordEvent(tx, {
        id: decision.id,
        state: "queued",
        reason: `position ${decision.position}, waits for ${decision.waitsFor}`,
      });
    }
    await announce(tx, `session/${decision.id}`);
  }
}

type Grant = Extract<Decision, { kind: "grant" }>;

async function grant(
  tx: Tx,
  { id, placement: { serverId, gpus } }: Grant,
  servers: readonly ServerCapacity[],
): Promise<void> {
  const server = servers.find((candidate) => candidate.id === serverId);
  if (server === undefined) throw new Error(`session ${id} was placed on an unknown server`);
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
  const parts = gpus.flatMap(({ uuid, memoryLimitBytes }) => {
    const gpu = server.gpus.find((candidate) => candidate.uuid === uuid);
    return gpu === undefined ? [] : [toPart(gpu, memoryLimitBytes)];
  });
  await recordEvent(tx, { id, state: "granted", reason: `${formatGpus(parts)} on ${server.name}` });
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

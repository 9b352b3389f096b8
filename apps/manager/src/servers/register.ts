import {
  FarpoolError,
  TIMES,
  type agentHeartbeatSchema,
  type agentRegistrationSchema,
  type HostFacts,
  type Inventory,
  type KnownHostFacts,
  type ServerId,
} from "@farpool/contract";
import { sql } from "kysely";
import type * as z from "zod";
import { inPlacement, jsonOrNull, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import { databaseTime } from "../identity/pool-identity.ts";
import { runPlacementPass } from "../placement/pass.ts";

type Registration = z.output<typeof agentRegistrationSchema>;
type Heartbeat = z.output<typeof agentHeartbeatSchema>;

/** An agent starts: its server appears, or is back. Nothing is placed on it before its acceptor is ready. */
export async function registerAgent(db: Database, registration: Registration): Promise<void> {
  const { serverId, name, version, endpoints, inventory, workerSandbox, host } = registration;
  const values = {
    name,
    version,
    driver_version: inventory.driverVersion,
    simulated: inventory.simulated,
    endpoints: JSON.stringify(endpoints),
    driver_release: inventory.driverRelease ?? null,
    acceptor_ready: false,
    worker_sandbox: jsonOrNull(workerSandbox),
    last_seen_at: now(),
    heard_at: now(),
    ...hostColumn(host, await databaseTime(db)),
  };
  await inPlacement(db, async (tx) => {
    const joined = await tx
      .selectFrom("machines")
      .select("labels")
      .where("id", "=", serverId)
      .executeTakeFirst();
    // What it was called when it joined, and what it is started with.
    const ownLabels = JSON.stringify({ ...joined?.labels, ...registration.labels });
    const stored = { ...values, own_labels: ownLabels };
    await tx
      .insertInto("servers")
      .values({ id: serverId, ...stored })
      .onConflict((conflict) => conflict.column("id").doUpdateSet(stored))
      .execute();
    await storeInventory(tx, serverId, inventory);
  });
}

/** A heartbeat that changes something, or may: the usual ones are gathered by `heartbeats.ts`. */
export async function heartbeatAgent(db: Database, serverId: ServerId, heartbeat: Heartbeat): Promise<void> {
  const before = await db
    .selectFrom("servers")
    .leftJoin("machines", (join) => join.on(sql<boolean>`machines.id = servers.id`))
    .select(["acceptor_ready", "machines.revoked_at"])
    .select(sql<boolean>`servers.last_seen_at > ${nowPlus(-TIMES.serverSilentMs)}`.as("is_heard"))
    .select(sql<Date>`clock_timestamp()`.as("now"))
    .where("servers.id", "=", serverId)
    .executeTakeFirst();
  if (before === undefined) {
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server ${serverId}`, {
      hint: "the agent registers again",
    });
  }
  // Its certificate may have been believed for a while: what is said for a removed server would bring it back.
  if (before.revoked_at !== null)
    throw new FarpoolError(
      "FARPOOL_CERTIFICATE",
      `the server ${serverId} was removed at ${before.revoked_at.toISOString()}`,
    );
  const values = {
    last_seen_at: now(),
    heard_at: now(),
    acceptor_ready: heartbeat.acceptorReady,
    ...(heartbeat.hasNothingNew && { reported_at: now() }),
    ...hostColumn(heartbeat.host, before.now),
  };
  const opens = heartbeat.acceptorReady && !(before.acceptor_ready && before.is_heard);
  if (!opens && heartbeat.inventory === null) {
    await db.updateTable("servers").set(values).where("id", "=", serverId).execute();
    return;
  }
  const { inventory } = heartbeat;
  await inPlacement(db, async (tx) => {
    await tx.updateTable("servers").set(values).where("id", "=", serverId).execute();
    if (inventory !== null) await storeInventory(tx, serverId, inventory);
    await runPlacementPass(tx);
  });
}

/** Nothing where nothing was told: what is known stays. */
function hostColumn(host: HostFacts | null | undefined, at: Date): { host?: string } {
  if (host === null || host === undefined) return {};
  const known: KnownHostFacts = { ...host, clockAheadMs: Date.parse(host.at) - at.getTime() };
  return { host: JSON.stringify(known) };
}

async function storeInventory(tx: Tx, serverId: ServerId, { gpus }: Inventory): Promise<void> {
  for (const gpu of gpus) {
    const owner = await tx
      .selectFrom("gpus")
      .innerJoin("servers", "servers.id", "gpus.server_id")
      .select("servers.name")
      .where("gpus.uuid", "=", gpu.uuid)
      .where("gpus.server_id", "<>", serverId)
      .where("gpus.present", "=", true)
      .where("servers.last_seen_at", ">", nowPlus(-TIMES.serverLostMs))
      .executeTakeFirst();
    if (owner !== undefined) {
      throw new FarpoolError(
        "FARPOOL_CONFLICT",
        `the GPU ${gpu.uuid} belongs to the server ${owner.name}, which is alive`,
        {
          hint: "two servers that name the same GPU were probably cloned from one image",
        },
      );
    }
    const values = {
      server_id: serverId,
      index: gpu.index,
      name: gpu.name,
      memory_total_bytes: gpu.memoryTotalBytes,
      memory_used_bytes: gpu.memoryUsedBytes,
      compute_capability: gpu.computeCapability,
      pci_bus_id: gpu.pciBusId,
      multiprocessors: gpu.multiprocessors,
      present: true,
      health: jsonOrNull(gpu.health),
      attributes: jsonOrNull(gpu.attributes),
    };
    await tx
      .insertInto("gpus")
      .values({ uuid: gpu.uuid, ...values })
      .onConflict((conflict) => conflict.column("uuid").doUpdateSet(values))
      .execute();
  }
  const gone = tx.updateTable("gpus").set({ present: false }).where("server_id", "=", serverId);
  const named = gpus.map((gpu) => gpu.uuid);
  await (named.length === 0 ? gone : gone.where("uuid", "not in", named)).execute();
}

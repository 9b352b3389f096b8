import { TIMES, type Gpu, type PoolStatus, type Server } from "@farpool/contract";
import { freeBytes, isUnused, type GpuCapacity } from "@farpool/domain";
import { sql } from "kysely";
import { nowPlus, type Database } from "../database/connect.ts";

type ServerState = Server["state"];

/** Derived, never stored: nobody has to be alive to notice that somebody is silent. */
const serverState = sql<ServerState>`case
  when last_seen_at <= ${nowPlus(-TIMES.serverLostMs)} then 'lost'
  when last_seen_at <= ${nowPlus(-TIMES.serverSilentMs)} or not acceptor_ready then 'silent'
  else 'online' end`;

export async function listServers(db: Database): Promise<Server[]> {
  const rows = await db
    .selectFrom("servers")
    .selectAll()
    .select(serverState.as("state"))
    .select((eb) =>
      eb
        .selectFrom("gpus")
        .select((gpus) => gpus.fn.countAll<number>().as("count"))
        .whereRef("gpus.server_id", "=", "servers.id")
        .where("present", "=", true)
        .as("gpu_count"),
    )
    .select((eb) =>
      eb
        .selectFrom("session_gpus")
        .innerJoin("gpus", "gpus.uuid", "session_gpus.gpu_uuid")
        .select((held) => held.fn.count<number>("session_id").distinct().as("count"))
        .whereRef("gpus.server_id", "=", "servers.id")
        .where("released_at", "is", null)
        .as("session_count"),
    )
    .orderBy("name")
    .execute();
  return rows.map((row) => ({
    id: row.id,
    name: row.name,
    state: row.state,
    version: row.version,
    driverVersion: row.driver_version,
    simulated: row.simulated,
    endpoints: row.endpoints,
    gpuCount: row.gpu_count ?? 0,
    workerSandbox: row.worker_sandbox,
    driverRelease: row.driver_release,
    labels: row.labels,
    drain: row.drained_at === null ? null : { since: row.drained_at.toISOString(), reason: row.drain_reason },
    maintenance:
      row.maintenance_until === null
        ? null
        : { until: row.maintenance_until.toISOString(), message: row.maintenance_message ?? "" },
    sessions: row.session_count ?? 0,
    host: row.host,
    registeredAt: row.registered_at.toISOString(),
    lastSeenAt: row.last_seen_at.toISOString(),
  }));
}

export async function listGpus(db: Database): Promise<Gpu[]> {
  const [rows, shares, used] = await Promise.all([
    db
      .selectFrom("gpus")
      .innerJoin("servers", "servers.id", "gpus.server_id")
      .selectAll("gpus")
      .select(["servers.name as server_name", "servers.simulated", serverState.as("state")])
      .where((eb) => eb.or([eb("present", "=", true), eb("gpus.uuid", "in", takenGpus(db))]))
      .orderBy("servers.name")
      .orderBy("gpus.index")
      .execute(),
    db
      .selectFrom("session_gpus")
      .innerJoin("sessions", "sessions.id", "session_gpus.session_id")
      .select([
        "sessions.id",
        "sessions.name",
        "client_user",
        "client_host",
        "client_program",
        "gpu_uuid",
        "memory_limit_bytes",
      ])
      .where("session_gpus.released_at", "is", null)
      .orderBy("queue_number")
      .execute(),
    readUsedBytes(db),
  ]);
  return rows.map((row) => {
    const mine = shares.filter((share) => share.gpu_uuid === row.uuid);
    const capacity: GpuCapacity = {
      uuid: row.uuid,
      name: row.name,
      index: row.index,
      totalBytes: row.memory_total_bytes,
      slices: mine.map((share) => share.memory_limit_bytes),
    };
    return {
      uuid: row.uuid,
      index: row.index,
      name: row.name,
      memoryTotalBytes: row.memory_total_bytes,
      memoryUsedBytes: row.memory_used_bytes,
      computeCapability: row.compute_capability,
      pciBusId: row.pci_bus_id,
      multiprocessors: row.multiprocessors,
      health: row.health,
      serverId: row.server_id,
      serverName: row.server_name,
      serverState: row.state,
      simulated: row.simulated,
      present: row.present,
      memoryFreeBytes: row.present ? freeBytes(capacity) : 0,
      wholeFree: row.present && isUnused(capacity),
      sessions: mine.map((share) => ({
        sessionId: share.id,
        sessionName: share.name,
        user: share.client_user,
        host: share.client_host,
        program: share.client_program,
        memoryLimitBytes: share.memory_limit_bytes,
        memoryUsedBytes: used.get(`${share.id} ${row.uuid}`) ?? 0,
      })),
    };
  });
}

function takenGpus(db: Database) {
  return db.selectFrom("session_gpus").select("gpu_uuid").where("released_at", "is", null);
}

/** Per session and GPU, what its living workers reported last. */
async function readUsedBytes(db: Database): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom("processes")
    .select(["session_id", "report"])
    .where("ended_at", "is", null)
    .where("report", "is not", null)
    .execute();
  const used = new Map<string, number>();
  for (const { session_id: id, report } of rows) {
    for (const { uuid, memoryUsedBytes } of report?.perGpu ?? []) {
      const key = `${id} ${uuid}`;
      used.set(key, (used.get(key) ?? 0) + memoryUsedBytes);
    }
  }
  return used;
}

export async function countPool(db: Database): Promise<Pick<PoolStatus, "servers" | "gpus" | "sessions">> {
  const [servers, gpus, sessions] = await Promise.all([
    listServers(db),
    listGpus(db),
    db
      .selectFrom("sessions")
      .select("state")
      .select((eb) => eb.fn.countAll<number>().as("count"))
      .where("state", "<>", "ended")
      .groupBy("state")
      .execute(),
  ]);
  const inState = (state: ServerState): number => servers.filter((server) => server.state === state).length;
  const queued = sessions.filter(({ state }) => state === "queued" || state === "requested");
  const running = sessions.filter(({ state }) => state === "granted" || state === "active");
  return {
    servers: { online: inState("online"), silent: inState("silent"), lost: inState("lost") },
    gpus: {
      total: gpus.filter((gpu) => gpu.present).length,
      wholeFree: gpus.filter((gpu) => gpu.wholeFree && gpu.serverState === "online").length,
    },
    sessions: {
      queued: queued.reduce((sum, { count }) => sum + count, 0),
      running: running.reduce((sum, { count }) => sum + count, 0),
    },
  };
}

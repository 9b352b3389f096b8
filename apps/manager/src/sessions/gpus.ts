import { FarpoolError, type SessionGpus, type SessionId } from "@farpool/contract";
import { nowPlus, type Database } from "../database/connect.ts";

const SAMPLE_MS = 10_000;
/** Samples come every 10 s, and a while after their end; an older one says nothing of now. */
const FRESH_MS = 30_000;

/** What NVML tells the programs of a session: looking is no use, and takes nothing. */
export async function readSessionGpus(db: Database, id: SessionId): Promise<SessionGpus> {
  const server = await db
    .selectFrom("sessions")
    .leftJoin("servers", "servers.id", "sessions.server_id")
    .select(["sessions.state", "driver_version", "driver_release", "simulated", "version"])
    .where("sessions.id", "=", id)
    .executeTakeFirst();
  if (server === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  if (server.state === "ended")
    throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
  if (server.driver_version === null)
    throw new FarpoolError("FARPOOL_CONFLICT", `the session ${id} is ${server.state}, it has no GPUs yet`);
  const [gpus, processes, busy] = await Promise.all([
    readGpus(db, id),
    readProcesses(db, id),
    readBusy(db, id),
  ]);
  return {
    driverVersion: server.driver_version,
    // The driver of simulated GPUs comes with their server.
    driverRelease: server.simulated === true ? server.version : server.driver_release,
    simulated: server.simulated ?? false,
    gpus: gpus.map((gpu) => {
      const own = processes.flatMap(({ connection_id: connection, client_pid: pid, program, report }) => {
        const used = report?.perGpu.find(({ uuid }) => uuid === gpu.uuid)?.memoryUsedBytes ?? 0;
        if (pid === null || used === 0) return [];
        const percent = busy.get(connection) ?? null;
        return [{ pid, program: program ?? "unknown", memoryUsedBytes: used, busyPercent: percent }];
      });
      const health = gpu.health;
      return {
        uuid: gpu.uuid,
        name: gpu.name,
        pciBusId: gpu.pci_bus_id,
        computeCapability: gpu.compute_capability,
        multiprocessors: gpu.multiprocessors,
        memoryTotalBytes: Math.min(gpu.memory_limit_bytes ?? gpu.memory_total_bytes, gpu.memory_total_bytes),
        memoryUsedBytes: own.reduce((sum, { memoryUsedBytes }) => sum + memoryUsedBytes, 0),
        busyPercent: Math.min(
          100,
          own.reduce((sum, { busyPercent }) => sum + (busyPercent ?? 0), 0),
        ),
        health: health === null ? null : pickHealth(health),
        processes: own,
      };
    }),
  };
}

function pickHealth({
  temperatureCelsius,
  eccCorrected,
  eccUncorrected,
  throttling,
  mig,
}: NonNullable<SessionGpus["gpus"][number]["health"]>) {
  return { temperatureCelsius, eccCorrected, eccUncorrected, throttling, mig };
}

/** In the order in which programs count them. */
function readGpus(db: Database, id: SessionId) {
  return db
    .selectFrom("session_gpus")
    .innerJoin("gpus", "gpus.uuid", "session_gpus.gpu_uuid")
    .selectAll("gpus")
    .select("session_gpus.memory_limit_bytes")
    .where("session_id", "=", id)
    .orderBy("ordinal")
    .execute();
}

function readProcesses(db: Database, id: SessionId) {
  return db
    .selectFrom("processes")
    .select(["connection_id", "client_pid", "program", "report"])
    .where("session_id", "=", id)
    .where("ended_at", "is", null)
    .orderBy("started_at")
    .execute();
}

/** Per process, percent of the last 10 s that its server told. */
async function readBusy(db: Database, id: SessionId): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom("usage_samples")
    .select(["connection_id", "busy_ms"])
    .where("session_id", "=", id)
    .where("resolution_s", "=", SAMPLE_MS / 1_000)
    .where("at", ">", nowPlus(-FRESH_MS))
    .orderBy("at")
    .execute();
  // The last one of each counts.
  return new Map(
    rows.map((row) => [row.connection_id, Math.min(100, Math.round((100 * row.busy_ms) / SAMPLE_MS))]),
  );
}

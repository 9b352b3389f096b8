import { FarpoolError, type SessionGpus, type SessionId } from "@farpool/contract";
import { compareVersions } from "@farpool/domain";
import { nowPlus, type Database } from "../database/connect.ts";
import { heldParts, placeOf } from "./places.ts";

const SAMPLE_MS = 10_000;
/** Samples come every 10 s, and a while after their end; an older one says nothing of now. */
const FRESH_MS = 30_000;

/** What NVML tells the programs of a session: looking is no use, and takes nothing. */
export async function readSessionGpus(db: Database, id: SessionId): Promise<SessionGpus> {
  const driver = await readDriver(db, id);
  const [gpus, processes, busy] = await Promise.all([
    readGpus(db, id),
    readProcesses(db, id),
    readBusy(db, id),
  ]);
  const servers = [...new Set(gpus.map(({ server_id: server }) => server))];
  return {
    ...driver,
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
        pciBusId: inDomainsOf(servers.indexOf(gpu.server_id), gpu.pci_bus_id),
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

/** Programs see one driver: of several servers the lowest, which all of them can do. */
async function readDriver(
  db: Database,
  id: SessionId,
): Promise<Pick<SessionGpus, "driverVersion" | "driverRelease" | "simulated">> {
  const servers = await db
    .selectFrom("sessions")
    .leftJoin("session_servers", heldParts)
    .leftJoin("servers", (join) => join.on("servers.id", "=", placeOf))
    .select(["sessions.state", "driver_version", "driver_release", "simulated", "version"])
    .where("sessions.id", "=", id)
    .execute();
  const [first] = servers;
  if (first === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  if (first.state === "ended") throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended`);
  const driverVersion = lowest(servers.map((server) => server.driver_version));
  if (driverVersion === null)
    throw new FarpoolError("FARPOOL_CONFLICT", `the session ${id} is ${first.state}, it has no GPUs yet`);
  return {
    driverVersion,
    driverRelease: lowest(
      // The driver of simulated GPUs comes with their server.
      servers.map((server) => (server.simulated === true ? server.version : server.driver_release)),
    ),
    simulated: servers.every(({ simulated }) => simulated === true),
  };
}

const lowest = (versions: ReadonlyArray<string | null>): string | null =>
  versions.flatMap((version) => version ?? []).toSorted(compareVersions)[0] ?? null;

function pickHealth({
  temperatureCelsius,
  eccCorrected,
  eccUncorrected,
  throttling,
  mig,
}: NonNullable<SessionGpus["gpus"][number]["health"]>) {
  return { temperatureCelsius, eccCorrected, eccUncorrected, throttling, mig };
}

/** As CUDA tells them: `move_to_domains` in native/shim-cuda/src/broker.rs. Numbers of 16 bits, of which servers use small ones. */
const DOMAINS_APART = 0x400;

/** GPUs of different servers may have the same address: each server of a session has domains of its own. */
export function inDomainsOf(server: number, pciBusId: string): string {
  const [domain = "", ...rest] = pciBusId.split(":");
  const moved = Number.parseInt(domain, 16) + DOMAINS_APART * server;
  return server === 0
    ? pciBusId
    : [moved.toString(16).toUpperCase().padStart(domain.length, "0"), ...rest].join(":");
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

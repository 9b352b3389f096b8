import {
  FarpoolError,
  type Queue,
  type Session,
  type SessionDetail,
  type SessionId,
  type SessionUsage,
} from "@farpool/contract";
import { sql, type Selectable } from "kysely";
import type { Database } from "../database/connect.ts";
import type { SessionsTable } from "../database/schema.ts";

type Row = Selectable<SessionsTable> & {
  server_name: string | null;
  further_servers: Session["furtherServers"];
  now: Date;
  gpus: Session["gpus"];
};

/** Not a query of its own: a session is read in one statement. */
const gpusOfSession = sql<Session["gpus"]>`(
  select coalesce(json_agg(json_build_object(
    'uuid', gpus.uuid, 'name', gpus.name,
    'memoryTotalBytes', memory_total_bytes, 'memoryLimitBytes', memory_limit_bytes,
    'releasedAt', to_char(session_gpus.released_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
  ) order by ordinal), '[]')
  from session_gpus join gpus on gpus.uuid = gpu_uuid where session_id = sessions.id)`;

const furtherServersOfSession = sql<Session["furtherServers"]>`(
  select coalesce(json_agg(json_build_object('id', further.id, 'name', further.name) order by position), '[]')
  from session_servers join servers further on further.id = session_servers.server_id
  where session_id = sessions.id and position > 0)`;

function selectSessions(db: Database) {
  return db
    .selectFrom("sessions")
    .leftJoin("servers", "servers.id", "sessions.server_id")
    .selectAll("sessions")
    .select("servers.name as server_name")
    .select([gpusOfSession.as("gpus"), furtherServersOfSession.as("further_servers")])
    .select(sql<Date>`clock_timestamp()`.as("now"));
}

export async function readSession(db: Database, id: SessionId): Promise<Session> {
  const row = await selectSessions(db).where("sessions.id", "=", id).executeTakeFirst();
  if (row === undefined) {
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`, {
      hint: "'farpool sessions list' lists them",
    });
  }
  const [session] = await complete(db, [row]);
  if (session === undefined) throw new Error(`session ${id} vanished while it was read`);
  return session;
}

/** Those that live or wait, oldest first, then the last `ended` that ended, newest first. */
export async function listSessions(db: Database, ended: number): Promise<Session[]> {
  const alive = await selectSessions(db)
    .where("sessions.state", "<>", "ended")
    .orderBy("queue_number")
    .execute();
  const past =
    ended === 0
      ? []
      : await selectSessions(db)
          .where("sessions.state", "=", "ended")
          .orderBy("sessions.ended_at", "desc")
          .limit(ended)
          .execute();
  return complete(db, [...alive, ...past]);
}

/** Those that wait, first to last, with whose share they count against. */
export async function listQueued(db: Database): Promise<Queue["entries"]> {
  const rows = await selectSessions(db)
    .where("sessions.state", "in", ["requested", "queued"])
    .orderBy("queue_position")
    .orderBy("queue_number")
    .execute();
  return rows.map((row) => ({ session: toSession(row, {}), shareKey: row.share_key }));
}

/** One snapshot: the usage is that of the processes beside it. */
export function readSessionDetail(db: Database, id: SessionId): Promise<SessionDetail> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute((tx) => readDetail(tx, id));
}

/** The same, where there is a snapshot already. */
export async function readDetail(db: Database, id: SessionId): Promise<SessionDetail> {
  const session = await readSession(db, id);
  const events = await db
    .selectFrom("session_events")
    .selectAll()
    .where("session_id", "=", id)
    .orderBy("id")
    .execute();
  const processes = await db
    .selectFrom("processes")
    .selectAll()
    .where("session_id", "=", id)
    .orderBy("started_at")
    .execute();
  return {
    ...session,
    events: events.map((event) => ({ at: event.at.toISOString(), state: event.state, reason: event.reason })),
    processes: processes.map((row) => ({
      connectionId: row.connection_id,
      workerPid: row.worker_pid,
      clientPid: row.client_pid,
      program: row.program,
      sandbox: row.sandbox,
      startedAt: row.started_at.toISOString(),
      endedAt: row.ended_at?.toISOString() ?? null,
      exit: row.exit,
      report: row.report,
    })),
  };
}

async function complete(db: Database, rows: readonly Row[]): Promise<Session[]> {
  // Only what its server has opened has had processes.
  const opened = rows.filter((row) => row.active_at !== null).map((row) => row.id);
  const usages = opened.length === 0 ? undefined : await readUsages(db, opened);
  return rows.map((row) => toSession(row, usages?.get(row.id) ?? {}));
}

type Counts = Omit<SessionUsage, "heldMs">;

async function readUsages(db: Database, ids: readonly SessionId[]): Promise<Map<SessionId, Counts>> {
  const total = (field: string) => sql<number>`coalesce(sum((report->>${sql.lit(field)})::float8), 0)`;
  const rows = await db
    .selectFrom("processes")
    .select("session_id")
    .select((eb) => eb.fn.countAll<number>().as("processes"))
    .select([
      total("busyMs").as("busyMs"),
      total("calls").as("calls"),
      total("roundTrips").as("roundTrips"),
      total("localCalls").as("localCalls"),
      total("bytesReceived").as("bytesReceived"),
      total("bytesSent").as("bytesSent"),
      total("kernelLaunches").as("kernelLaunches"),
      sql<number>`coalesce(max((report->>'memoryPeakBytes')::float8), 0)`.as("memoryPeakBytes"),
    ])
    .where("session_id", "in", ids)
    .groupBy("session_id")
    .execute();
  return new Map(rows.map(({ session_id: id, ...counts }) => [id, counts]));
}

const NO_COUNTS: Counts = {
  busyMs: 0,
  processes: 0,
  calls: 0,
  roundTrips: 0,
  localCalls: 0,
  bytesReceived: 0,
  bytesSent: 0,
  kernelLaunches: 0,
  memoryPeakBytes: 0,
};

function toSession(row: Row, counts: Partial<Counts>): Session {
  const heldMs = row.granted_at === null ? 0 : (row.ended_at ?? row.now).getTime() - row.granted_at.getTime();
  return {
    id: row.id,
    state: row.state,
    name: row.name,
    count: row.requested_count,
    size: row.size,
    client: {
      host: row.client_host,
      user: row.client_user,
      pid: row.client_pid,
      program: row.client_program,
    },
    clientKey: row.client_key,
    purpose: row.purpose,
    project: row.project,
    labels: row.labels,
    idleTimeoutMs: row.idle_timeout_ms,
    maxDurationMs: row.max_duration_ms,
    autoReleaseMs: row.auto_release_ms,
    expiresAt:
      row.granted_at === null || row.max_duration_ms === null
        ? null
        : new Date(row.granted_at.getTime() + row.max_duration_ms).toISOString(),
    lastBusyAt: row.last_busy_at?.toISOString() ?? null,
    serverId: row.server_id,
    serverName: row.server_name,
    furtherServers: row.further_servers,
    gpus: row.gpus,
    requestedAt: row.requested_at.toISOString(),
    grantedAt: row.granted_at?.toISOString() ?? null,
    activeAt: row.active_at?.toISOString() ?? null,
    endedAt: row.ended_at?.toISOString() ?? null,
    endReason: row.end_reason,
    endMessage: row.end_message,
    releasedAt: row.released_at?.toISOString() ?? null,
    queue:
      row.queue_position === null
        ? null
        : {
            position: row.queue_position,
            waitsFor: row.waits_for ?? "",
            estimatedAt: row.estimated_at?.toISOString() ?? null,
          },
    priority: row.priority,
    filters: row.filters,
    budgetNotice: row.budget_notice,
    usage: { ...NO_COUNTS, ...counts, heldMs: Math.max(0, heldMs) },
    revision: row.revision,
  };
}

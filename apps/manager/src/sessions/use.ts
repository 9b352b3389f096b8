import type { agentReportSchema, ServerId, SessionId, WorkerReport } from "@farpool/contract";
import type * as z from "zod";
import { now, type Database } from "../database/connect.ts";
import { isOn } from "./places.ts";

type ReportedWorkers = z.output<typeof agentReportSchema>["workers"];

/** What grows when a program uses its GPU: a call, a copy's bytes, a kernel, time in which it was waited for. */
const SIGNS = ["calls", "kernelLaunches", "bytesReceived", "bytesSent", "busyMs"] as const;

/**
 * Notes which sessions were used since their server's last report; called before the report is stored. Memory that is
 * held is no use.
 */
export async function noteUse(db: Database, serverId: ServerId, workers: ReportedWorkers): Promise<void> {
  const used = workers.length === 0 ? [] : await findUsed(db, workers);
  if (used.length > 0) {
    await db
      .updateTable("sessions")
      .set({ last_busy_at: now(), idle_warned_at: null })
      .where("id", "in", used)
      .where(isOn(serverId))
      .where("state", "<>", "ended")
      .execute();
  }
  // After the use: in between a session must not look idle.
  await db.updateTable("servers").set({ reported_at: now() }).where("id", "=", serverId).execute();
}

async function findUsed(db: Database, workers: ReportedWorkers): Promise<SessionId[]> {
  const known = await db
    .selectFrom("processes")
    .select(["session_id", "connection_id", "report", "ended_at"])
    .where("session_id", "in", [...new Set(workers.map(({ sessionId }) => sessionId))])
    .where("connection_id", "in", [...new Set(workers.map(({ worker }) => worker.connectionId))])
    .execute();
  const before = new Map(known.map((row) => [`${row.session_id} ${row.connection_id}`, row]));
  const used = new Set<SessionId>();
  for (const { sessionId, worker } of workers) {
    const row = before.get(`${sessionId} ${worker.connectionId}`);
    // A process that has come, or gone, is use, too.
    const isNews =
      row === undefined ||
      (row.ended_at === null) !== (worker.endedAt === undefined || worker.endedAt === null);
    if (isNews || hasGrown(row.report, worker.report)) used.add(sessionId);
  }
  return [...used];
}

function hasGrown(before: WorkerReport | null, after: WorkerReport | null | undefined): boolean {
  if (after === null || after === undefined) return false;
  return SIGNS.some((sign) => after[sign] > (before?.[sign] ?? 0));
}

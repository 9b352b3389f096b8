import { type agentReportSchema, type ServerId, type Session, type SessionId } from "@farpool/contract";
import { sql } from "kysely";
import type * as z from "zod";
import { CHANNEL } from "../database/changes.ts";
import { inPlacement, jsonOrNull, now, type Database, type Tx } from "../database/connect.ts";
import { recordRefusals } from "../identity/audit.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { storedProgram } from "../privacy/settings.ts";
import { correctBusy } from "../usage/corrections.ts";
import { storeSamples } from "../usage/samples.ts";
import { endInPlacement, releaseInPlacement } from "../sessions/end.ts";
import { heldParts, isOn, placeOf } from "../sessions/places.ts";
import { noteUse } from "../sessions/use.ts";
import { readSession } from "../sessions/read.ts";

type Report = z.output<typeof agentReportSchema>;

/** What a server does hold: makes granted sessions active and ended ones free. */
export async function acceptReport(db: Database, serverId: ServerId, report: Report): Promise<void> {
  await noteUse(db, serverId, report.workers);
  await storeProcesses(db, serverId, report);
  await storeSamples(db, serverId, report.samples);
  await recordRefusals(db, serverId, report.refusals);
  if (!(await changesAnything(db, serverId, report))) return;
  await inPlacement(db, async (tx) => {
    await activate(tx, serverId, report.openSessions);
    await endFailed(tx, serverId, report);
    await release(tx, serverId, report);
    await runPlacementPass(tx);
  });
}

function opened(db: Database, serverId: ServerId, openSessions: readonly SessionId[]) {
  return db
    .selectFrom("sessions")
    .leftJoin("session_servers", heldParts)
    .select("sessions.id")
    .where(placeOf, "=", serverId)
    .where("state", "=", "granted")
    .where("session_servers.opened_at", "is", null)
    .where("sessions.id", "in", openSessions);
}

/** Ended, and closed at the server, in a set that the agent read after the end: an older one proves nothing. */
function closed(db: Database, serverId: ServerId, { appliedRevision, openSessions }: Report) {
  const ended = db
    .selectFrom("sessions")
    .select("sessions.id")
    .where("state", "=", "ended")
    .where("sessions.released_at", "is", null)
    .$if(openSessions.length > 0, (query) => query.where("sessions.id", "not in", openSessions));
  const whole = ended
    .where("sessions.server_id", "=", serverId)
    .where("sessions.ended_at_revision", "<=", appliedRevision)
    .where(sql<boolean>`not exists (select from session_servers where session_id = sessions.id)`);
  // Each by an index of its own.
  const parts = ended
    .innerJoin("session_servers", "session_servers.session_id", "sessions.id")
    .where("session_servers.server_id", "=", serverId)
    .where("session_servers.released_at", "is", null)
    .where("session_servers.ended_at_revision", "<=", appliedRevision);
  return whole.unionAll(parts);
}

async function changesAnything(db: Database, serverId: ServerId, report: Report): Promise<boolean> {
  if (report.failures.length > 0) return true;
  if (
    report.openSessions.length > 0 &&
    (await opened(db, serverId, report.openSessions).executeTakeFirst()) !== undefined
  )
    return true;
  return (await closed(db, serverId, report).executeTakeFirst()) !== undefined;
}

/** A session on several servers is active when the last of them has opened it. */
async function activate(tx: Tx, serverId: ServerId, openSessions: readonly SessionId[]): Promise<void> {
  if (openSessions.length === 0) return;
  await sql`
    with opened as (
      update session_servers set opened_at = clock_timestamp() from sessions
      where sessions.id = session_id and state = 'granted' and session_servers.server_id = ${serverId}
        and session_id = any(${openSessions}) and opened_at is null
    ), active as (
      update sessions set state = 'active', active_at = clock_timestamp(), revision = revision + 1
      where ${isOn(serverId)} and state = 'granted' and id = any(${openSessions})
        and not exists (select from session_servers part
          where session_id = sessions.id and part.server_id <> ${serverId} and opened_at is null)
      returning id
    ), told as (
      insert into session_events (session_id, state, reason)
      select id, 'active', case
        when exists (select from session_servers where session_id = active.id) then 'its servers take connections'
        else 'the server takes connections' end from active
    )
    select pg_notify(${CHANNEL}, 'session/' || id) from active`.execute(tx);
}

async function endFailed(tx: Tx, serverId: ServerId, { failures }: Report): Promise<void> {
  for (const { sessionId, message } of failures) {
    const row = await tx
      .selectFrom("sessions")
      .select("id")
      .where("id", "=", sessionId)
      .where(isOn(serverId))
      .executeTakeFirst();
    if (row === undefined) continue;
    const session = await readSession(tx, sessionId);
    if (session.state === "ended") continue;
    await endInPlacement(tx, session, {
      reason: "refused-by-server",
      message: `the server${nameAmong(session, serverId)} could not open the session: ${message}`,
    });
  }
}

/** Which one it is has to be said where there are several. */
function nameAmong({ serverName, furtherServers }: Session, serverId: ServerId): string {
  if (furtherServers.length === 0) return "";
  return ` ${furtherServers.find(({ id }) => id === serverId)?.name ?? serverName}`;
}

async function release(tx: Tx, serverId: ServerId, report: Report): Promise<void> {
  const rows = await closed(tx, serverId, report).execute();
  await releaseInPlacement(
    tx,
    rows.map(({ id }) => ({ id, serverId })),
  );
}

async function storeProcesses(db: Database, serverId: ServerId, { workers }: Report): Promise<void> {
  if (workers.length === 0) return;
  const sessions = await db
    .selectFrom("sessions")
    .select(["id", "usage_open"])
    .where(isOn(serverId))
    .where("id", "in", [...new Set(workers.map(({ sessionId }) => sessionId))])
    .execute();
  const ids = new Set(sessions.map(({ id }) => id));
  for (const { sessionId, worker } of workers) {
    if (!ids.has(sessionId)) continue;
    await db
      .insertInto("processes")
      .values({
        session_id: sessionId,
        connection_id: worker.connectionId,
        server_id: serverId,
        worker_pid: worker.pid,
        client_pid: worker.clientPid ?? null,
        program: storedProgram(worker.program ?? null),
        sandbox: jsonOrNull(worker.sandbox),
        started_at: worker.startedAt,
        ended_at: worker.endedAt ?? null,
        exit: worker.exit ?? null,
        reported_at: now(),
        report: jsonOrNull(worker.report),
      })
      .onConflict((conflict) =>
        conflict
          .columns(["session_id", "connection_id"])
          .doUpdateSet({
            worker_pid: worker.pid,
            reported_at: now(),
            // What is known stays: a worker that was killed sends no last report, and what an agent read before a worker's
            // end may arrive after it. For the same reason counters only grow.
            client_pid: known("client_pid"),
            program: known("program"),
            sandbox: known("sandbox"),
            ended_at: known("ended_at"),
            exit: known("exit"),
            report: sql<string>`case
            when (processes.report->>'calls')::numeric > coalesce((excluded.report->>'calls')::numeric, -1)
            then processes.report else coalesce(excluded.report, processes.report) end`,
          })
          // Of a session on several servers, each speaks for its own workers.
          .whereRef("processes.server_id", "=", "excluded.server_id"),
      )
      .execute();
  }
  const over = sessions.filter(({ usage_open: isOpen }) => !isOpen);
  await correctBusy(
    db,
    over.map(({ id }) => id),
  );
}

function known<T>(column: string) {
  return sql<T>`coalesce(${sql.ref(`excluded.${column}`)}, ${sql.ref(`processes.${column}`)})`;
}

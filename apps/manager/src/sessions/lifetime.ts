import { formatDuration, type SessionId } from "@farpool/contract";
import { sql, type RawBuilder } from "kysely";
import { now, type Database, type Tx } from "../database/connect.ts";
import type { Ending } from "./end.ts";
import { postNotice } from "./notices.ts";

/** Who lets a GPU lie is warned when so much of the timeout is over. */
const IDLE_WARNING_SHARE = 0.8;
/** So long before the end of the maximum duration, but not before as much of it is over. */
const DURATION_WARNING_MS = 600_000;
const DURATION_WARNING_SHARE = 0.8;

interface Over {
  readonly id: SessionId;
  readonly ending: Ending;
}

/**
 * How long a session had not been used when its server last reported, of several the one whose report is oldest. By the
 * report's time, not by now: a server or a manager that is away says nothing about use.
 */
const idleMs = sql<number>`extract(epoch from least(servers.reported_at, (
    select min(part.reported_at) from session_servers join servers part on part.id = session_servers.server_id
     where session_id = sessions.id and released_at is null))
  - greatest(sessions.active_at, sessions.last_busy_at)) * 1000`;
/** The same at most, by the first server alone: enough to leave most sessions out without a look at their other servers. */
const idleMostMs = sql<number>`extract(epoch from servers.reported_at
  - greatest(sessions.active_at, sessions.last_busy_at)) * 1000`;
/** Idle for `ms`, an expression of milliseconds: what is cheap to know is asked first. */
const isIdleFor = (ms: RawBuilder<number>) => sql<boolean>`(${idleMostMs} >= ${ms} and ${idleMs} >= ${ms})`;
const heldMs = sql<number>`extract(epoch from clock_timestamp() - sessions.granted_at) * 1000`;

/** Sessions whose time is over: idle for too long, held for too long, reserved and left alone. */
export async function findOver(db: Database | Tx): Promise<Over[]> {
  const [idle, long, left] = await Promise.all([
    db
      .selectFrom("sessions")
      .innerJoin("servers", "servers.id", "sessions.server_id")
      .select(["sessions.id", "idle_timeout_ms", idleMs.as("idle_ms")])
      .where("state", "=", "active")
      .where("idle_timeout_ms", "is not", null)
      .where(isIdleFor(sql`idle_timeout_ms`))
      // Nobody is ended unwarned, whatever was away meanwhile.
      .where(
        sql<boolean>`idle_warned_at <= clock_timestamp() - ${(1 - IDLE_WARNING_SHARE) / 2}::float8 * idle_timeout_ms * interval '1 millisecond'`,
      )
      .execute(),
    db
      .selectFrom("sessions")
      .select(["id", "max_duration_ms"])
      .where("state", "in", ["granted", "active"])
      .where("max_duration_ms", "is not", null)
      .where(sql<boolean>`${heldMs} >= max_duration_ms`)
      .execute(),
    db
      .selectFrom("sessions")
      .select(["id", "auto_release_ms"])
      .where("state", "=", "active")
      .where("purpose", "=", "reserve")
      .where("auto_release_ms", "is not", null)
      .where(
        sql<boolean>`greatest(active_at, attached_at) + auto_release_ms * interval '1 millisecond' < clock_timestamp()`,
      )
      .where(({ not, exists, selectFrom }) =>
        not(
          exists(
            selectFrom("processes")
              .select("connection_id")
              .whereRef("processes.session_id", "=", "sessions.id")
              .where("processes.ended_at", "is", null),
          ),
        ),
      )
      .execute(),
  ]);
  return [
    ...idle.map(({ id, idle_timeout_ms: limit, idle_ms: ms }): Over => ({
      id,
      ending: {
        reason: "idle",
        message: `idle for ${formatDuration(ms)}: no kernel, copy or call of its programs (its idle timeout is ${formatDuration(limit ?? 0)})`,
      },
    })),
    ...left.map(({ id, auto_release_ms: limit }): Over => ({
      id,
      ending: { reason: "released", message: `nothing was attached to it for ${formatDuration(limit ?? 0)}` },
    })),
    ...long.map(({ id, max_duration_ms: limit }): Over => ({
      id,
      ending: {
        reason: "duration",
        message: `its maximum duration of ${formatDuration(limit ?? 0)} is over`,
      },
    })),
  ];
}

/** Tells those who hold sessions that will end soon. */
export async function warnBeforeEnd(db: Database): Promise<void> {
  const isLong = sql<boolean>`${heldMs} >= greatest(${DURATION_WARNING_SHARE}::float8 * max_duration_ms, max_duration_ms - ${DURATION_WARNING_MS}::float8)`;
  const living = db
    .selectFrom("sessions")
    .innerJoin("servers", "servers.id", "sessions.server_id")
    .where("state", "=", "active");
  const [idle, long] = await Promise.all([
    living
      .select(["sessions.id", "idle_timeout_ms as limit", idleMs.as("ms")])
      .where("idle_timeout_ms", "is not", null)
      .where("idle_warned_at", "is", null)
      .where(isIdleFor(sql`${IDLE_WARNING_SHARE}::float8 * idle_timeout_ms`))
      .execute(),
    living
      .select(["sessions.id", "max_duration_ms as limit", heldMs.as("ms")])
      .where("max_duration_ms", "is not", null)
      .where("duration_warned_at", "is", null)
      .where(isLong)
      .execute(),
  ]);
  for (const { id, limit, ms } of idle) {
    const left = formatDuration(Math.max(0, (limit ?? 0) - ms));
    await warn(db, {
      ...{ id, column: "idle_warned_at", kind: "idle" },
      text: `idle for ${formatDuration(ms)}: it ends in ${left} unless a program uses its GPUs`,
    });
  }
  for (const { id, limit, ms } of long) {
    const left = formatDuration(Math.max(0, (limit ?? 0) - ms));
    await warn(db, {
      ...{ id, column: "duration_warned_at", kind: "duration" },
      text: `its maximum duration of ${formatDuration(limit ?? 0)} is over in ${left}; 'farpool sessions extend ${id} 1h' asks for more`,
    });
  }
}

interface Warning {
  readonly id: SessionId;
  readonly column: "idle_warned_at" | "duration_warned_at";
  readonly kind: "idle" | "duration";
  readonly text: string;
}

/** Of several managers one warns. */
function warn(db: Database, { id, column, kind, text }: Warning): Promise<void> {
  return db.transaction().execute(async (tx) => {
    const marked = await tx
      .updateTable("sessions")
      .set({ [column]: now() })
      .where("id", "=", id)
      .where("state", "=", "active")
      .where(column, "is", null)
      .returning("id")
      .executeTakeFirst();
    if (marked !== undefined) await postNotice(tx, { id, kind, text });
  });
}

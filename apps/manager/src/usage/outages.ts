import { uptime } from "node:os";
import { formatDuration, type SessionId } from "@farpool/contract";
import { sql } from "kysely";
import type { Database, Tx } from "../database/connect.ts";
import { placeOf } from "../sessions/places.ts";

/**
 * A session was lost with its server, of several the one that is silent the longest: it could not be served from when that was
 * last heard. To be called in the
 * transaction that ends it, after its end.
 */
export async function recordServerLost(tx: Tx, id: SessionId): Promise<void> {
  await sql`
    insert into outages (session_id, from_at, to_at, reason)
    select sessions.id, coalesce(server.heard_at, server.last_seen_at), clock_timestamp() + interval '1 second',
           'the server ' || server.name || ' was lost'
      from sessions
      left join session_servers on session_id = sessions.id
      join servers server on server.id = ${placeOf}
     where sessions.id = ${id}
     order by coalesce(server.heard_at, server.last_seen_at) limit 1`.execute(tx);
}

/** Smaller steps are what clocks do. */
const STEP_MS = 2_000;
/** An answer that took longer says too little about when the database looked at its clock. */
const ANSWER_MS = 500;

/** Time that passes also while a machine sleeps, and that nobody sets. */
export type SteadyClock = () => number;
const SINCE_BOOT: SteadyClock = () => uptime() * 1_000;

/**
 * Sees whether the database's clock was set forward: the time that it left out has not passed for anybody, and is marked as
 * one in which the pool could not serve. A clock set back needs nothing: no record begins before the last one's end.
 */
export function createClockWatch(db: Database, steady: SteadyClock = SINCE_BOOT): { look(): Promise<void> } {
  let before: { readonly wallMs: number; readonly steadyMs: number } | undefined;
  return {
    async look() {
      const askedMs = steady();
      const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(db);
      const steadyMs = steady();
      const wallMs = rows[0]?.now.getTime();
      if (wallMs === undefined || steadyMs - askedMs > ANSWER_MS) return;
      const stepMs = before === undefined ? 0 : wallMs - before.wallMs - (steadyMs - before.steadyMs);
      if (before !== undefined && stepMs > STEP_MS) {
        const values = {
          session_id: null,
          from_at: new Date(wallMs - stepMs),
          to_at: new Date(wallMs),
          reason: `the pool's clock was set forward by ${formatDuration(stepMs)}`,
        };
        await db.insertInto("outages").values(values).execute();
      }
      before = { wallMs, steadyMs };
    },
  };
}

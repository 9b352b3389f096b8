import type { SessionId } from "@farpool/contract";
import { dayOf, settleableUntil, startOfDay } from "@farpool/usage";
import { sql } from "kysely";
import type { Database, Tx } from "../database/connect.ts";
import { readHeldSessions, type HeldSession } from "./holdings.ts";
import { insertRecords } from "./insert.ts";
import { readTariff, type PoolTariff } from "./tariff.ts";
import { readUntold, tell, type Telling, type UntoldProcess } from "./telling.ts";

/** So many are settled between two looks at the database. */
const PAGE = 200;

/**
 * Writes the records that are due: all of a session that is over and whose workers are gone, and of one that goes on what
 * lies before the last day end or price change. Any manager may do so, several at once too: a session is told by one.
 */
export async function settleUsage(db: Database, signal?: AbortSignal): Promise<number> {
  const tariff = await readTariff(db);
  const dayAt = startOfDay(dayOf(tariff.nowMs, tariff.timeZone), tariff.timeZone);
  const due = { dayAt: new Date(dayAt), now: new Date(tariff.nowMs) };
  let settled = 0;
  for (let after: SessionId | null = null; ;) {
    const sessions: readonly HeldSession[] = await readHeldSessions(db, { after, limit: PAGE, due });
    const untold = await readUntold(
      db,
      sessions.map(({ id }) => id),
    );
    if (signal?.aborted === true) return settled;
    const shares = sessions.flatMap((session) => {
      const one = dueOf(session, { tariff, processes: untold.get(session.id) ?? [] });
      return one === undefined ? [] : [one];
    });
    settled += await write(db, shares, tariff.currency);
    if (sessions.length < PAGE) return settled;
    after = sessions.at(-1)?.id ?? null;
  }
}

interface Settling {
  readonly tariff: PoolTariff;
  readonly processes: readonly UntoldProcess[];
}

/** What is to be settled of a session. */
interface Due {
  readonly session: HeldSession;
  readonly told: Telling;
  readonly untilMs: number;
  readonly isOver: boolean;
}

function dueOf(session: HeldSession, { tariff, processes }: Settling): Due | undefined {
  const { holding } = session;
  const isOver = holding.endedMs !== null && session.isReleased;
  // What follows after the server was last heard is charged or not when it is known which.
  const nowMs = isOver ? tariff.nowMs : Math.min(tariff.nowMs, session.heardMs);
  const goesOn = { ...holding, endedMs: isOver ? holding.endedMs : null };
  const untilMs = settleableUntil(goesOn, { zone: tariff.timeZone, prices: tariff.prices, nowMs });
  if (!isOver && untilMs <= (holding.settledMs ?? holding.grantedMs)) return undefined;
  return { session, told: tell(session, processes, { tariff, untilMs, isOver }), untilMs, isOver };
}

/** Claims the sessions and writes their records, in one transaction. */
async function write(db: Database, all: readonly Due[], currency: string): Promise<number> {
  if (all.length === 0) return 0;
  return db.transaction().execute(async (tx) => {
    const claimed = await claim(tx, all);
    const mine = all.filter(({ session }) => claimed.has(session.id));
    const records = mine.map(({ session, told }) => ({ session, ...told }));
    await insertRecords(tx, records, { kind: "usage", currency });
    return mine.length;
  });
}

/**
 * Those that no other manager has settled meanwhile. One that somebody else is changing at this moment is left to the next
 * time: a server's end may hold thousands of them for long.
 */
async function claim(tx: Tx, all: readonly Due[]): Promise<ReadonlySet<SessionId>> {
  const values = all.map(({ session: { id, holding }, untilMs, isOver }) => ({
    id,
    before: holding.settledMs === null ? null : new Date(holding.settledMs),
    // The end of a clock that was set back may lie before what is settled: that stands.
    until: new Date(Math.max(untilMs, holding.settledMs ?? untilMs)),
    open: !isOver,
  }));
  const { rows } = await sql<{ id: SessionId }>`
    with wanted as (
      select * from jsonb_to_recordset(${JSON.stringify(values)}::jsonb)
        as wanted (id text, before timestamptz, until timestamptz, open boolean)
    ), free as (
      select session.id, wanted.until, wanted.open
        from sessions session join wanted on wanted.id = session.id
       where session.usage_open and session.usage_settled_until is not distinct from wanted.before
         for update of session skip locked
    )
    update sessions set usage_settled_until = free.until, usage_open = free.open
      from free where sessions.id = free.id
    returning sessions.id`.execute(tx);
  return new Set(rows.map(({ id }) => id));
}

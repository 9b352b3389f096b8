import type { SessionId } from "@farpool/contract";
import { dayOf, settleableUntil, startOfDay } from "@farpool/usage";
import { sql } from "kysely";
import type { Database, Tx } from "../database/connect.ts";
import { readHeldSessions, type HeldSession } from "./holdings.ts";
import { insertRecords } from "./insert.ts";
import { readTariff, type PoolTariff } from "./tariff.ts";
import { readUntold, tell, type UntoldProcess } from "./telling.ts";

/** So many are settled between two looks at the database. */
const PAGE = 200;

/**
 * Writes the records that are due: all of a session that is over and whose workers are gone, and of one that goes on what
 * lies before the last day end or price change. Any manager may do so, several at once too: a session is told by one.
 */
export async function settleUsage(db: Database): Promise<number> {
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
    for (const session of sessions)
      if (await settle(db, session, { tariff, processes: untold.get(session.id) ?? [] })) settled += 1;
    if (sessions.length < PAGE) return settled;
    after = sessions.at(-1)?.id ?? null;
  }
}

interface Settling {
  readonly tariff: PoolTariff;
  readonly processes: readonly UntoldProcess[];
}

async function settle(db: Database, session: HeldSession, { tariff, processes }: Settling): Promise<boolean> {
  const { holding } = session;
  const isOver = holding.endedMs !== null && session.isReleased;
  // What follows after the server was last heard is charged or not when it is known which.
  const nowMs = isOver ? tariff.nowMs : Math.min(tariff.nowMs, session.heardMs);
  const goesOn = { ...holding, endedMs: isOver ? holding.endedMs : null };
  const untilMs = settleableUntil(goesOn, { zone: tariff.timeZone, prices: tariff.prices, nowMs });
  if (!isOver && untilMs <= (holding.settledMs ?? holding.grantedMs)) return false;
  const told = tell(session, processes, { tariff, untilMs, isOver });
  return db.transaction().execute(async (tx) => {
    if (!(await claim(tx, session, { untilMs, isOver }))) return false;
    await insertRecords(tx, session, { ...told, kind: "usage", currency: tariff.currency });
    return true;
  });
}

/** False: another manager was faster. */
async function claim(
  tx: Tx,
  { id, holding }: HeldSession,
  { untilMs, isOver }: { readonly untilMs: number; readonly isOver: boolean },
): Promise<boolean> {
  const before = holding.settledMs === null ? null : new Date(holding.settledMs);
  // The end of a clock that was set back may lie before what is settled: that stands.
  const until = new Date(Math.max(untilMs, holding.settledMs ?? untilMs));
  const { numAffectedRows } = await sql`
    update sessions set usage_settled_until = ${until}, usage_open = ${!isOver}
     where id = ${id} and usage_open and usage_settled_until is not distinct from ${before}`.execute(tx);
  return numAffectedRows === 1n;
}

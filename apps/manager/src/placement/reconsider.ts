import { inPlacement, type Database } from "../database/connect.ts";
import { runPlacementPass } from "./pass.ts";

/** Often enough that an estimate is never far off, seldom enough to cost nothing. */
const PERIOD_MS = 5_000;

/**
 * Looks at the queue again where nothing has happened: time alone makes GPUs be kept for the first, raises those
 * of low priority, and moves estimates.
 */
export function createReconsider(db: Database, clock: () => number = Date.now): () => Promise<void> {
  let lastMs = clock();
  return async () => {
    if (clock() - lastMs < PERIOD_MS) return;
    lastMs = clock();
    const waits = await db
      .selectFrom("sessions")
      .select("id")
      .where("state", "in", ["requested", "queued"])
      .limit(1)
      .executeTakeFirst();
    if (waits !== undefined) await inPlacement(db, (tx) => runPlacementPass(tx));
  };
}

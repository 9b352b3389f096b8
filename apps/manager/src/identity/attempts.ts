import { FarpoolError, formatDuration } from "@farpool/contract";
import { sql } from "kysely";
import { nowPlus, type Database } from "../database/connect.ts";

const WINDOW_MS = 15 * 60_000;

/** Who tries, and how often it may fail within a quarter of an hour. */
export interface Limit {
  readonly subject: string;
  readonly most: number;
}

/** Refuses who has failed too often already; in the database, so that all managers count together. */
export async function requireFewFailures(db: Database, limits: readonly Limit[]): Promise<void> {
  if (limits.length === 0) return;
  const rows = await db
    .selectFrom("attempts")
    .select(["subject", "failures"])
    .select(sql<number>`extract(epoch from ends_at - clock_timestamp())::float8`.as("left"))
    .where(
      "subject",
      "in",
      limits.map(({ subject }) => subject),
    )
    .execute();
  for (const { subject, failures, left } of rows) {
    const limit = limits.find((each) => each.subject === subject);
    if (limit === undefined || left <= 0 || failures < limit.most) continue;
    throw new FarpoolError(
      "FARPOOL_TOO_MANY_ATTEMPTS",
      `${failures} attempts have failed within ${formatDuration(WINDOW_MS)}; the next is possible in ${formatDuration(left * 1_000)}`,
      { hint: "'farpool admin login-link' on the manager's machine makes a link that signs in at once" },
    );
  }
}

export async function countFailure(db: Database, limits: readonly Limit[]): Promise<void> {
  for (const { subject } of limits) {
    await db
      .insertInto("attempts")
      .values({ subject, failures: 1, ends_at: nowPlus(WINDOW_MS) })
      .onConflict((conflict) =>
        conflict.column("subject").doUpdateSet({
          failures: sql`case when attempts.ends_at < clock_timestamp() then 1 else attempts.failures + 1 end`,
          ends_at: sql`case when attempts.ends_at < clock_timestamp() then excluded.ends_at else attempts.ends_at end`,
        }),
      )
      .execute();
  }
  await db.deleteFrom("attempts").where("ends_at", "<", nowPlus(-WINDOW_MS)).execute();
}

export async function forgetFailures(db: Database, subject: string): Promise<void> {
  await db.deleteFrom("attempts").where("subject", "=", subject).execute();
}

import { thumbprintSchema, type PersonData } from "@farpool/contract";
import { sql } from "kysely";
import type { Database } from "../database/connect.ts";
import { toUsageRecord } from "../usage/records.ts";
import { readDetail } from "../sessions/read.ts";
import { findSubject, isSubject, tellsOf, type DataSubject } from "./person.ts";

/** All that the pool has of somebody, but secrets and samples: these are asked for by session. */
export function exportPerson(db: Database, named: string): Promise<PersonData> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const subject = await findSubject(tx, named);
      const { name, user, places } = subject;
      const sessions = await tx
        .selectFrom("sessions")
        .select("id")
        .where(isSubject(name))
        .orderBy("queue_number")
        .execute();
      const records = await tx
        .selectFrom("usage_records")
        .selectAll()
        .where("user_name", "=", name)
        .orderBy("id")
        .execute();
      return {
        name,
        exportedAt: new Date().toISOString(),
        account:
          user === undefined
            ? null
            : {
                id: user.id,
                role: user.role,
                hasPassword: user.password_hash !== null,
                createdAt: user.created_at.toISOString(),
                lastSignInAt: user.last_sign_in_at?.toISOString() ?? null,
                disabledAt: user.disabled_at?.toISOString() ?? null,
              },
        places: [...places],
        ...(await readSurroundings(tx, subject)),
        sessions: await inTurn(sessions, ({ id }) => readDetail(tx, id)),
        usageRecords: records.map(toUsageRecord),
        processRecords: await readProcessRecords(tx, name),
        audit: await readAuditOf(tx, subject),
      };
    });
}

/** A transaction has one connection. */
async function inTurn<T, R>(all: readonly T[], work: (each: T) => Promise<R>): Promise<R[]> {
  const done: R[] = [];
  for (const each of all) done.push(await work(each));
  return done;
}

async function readSurroundings(
  db: Database,
  { name, user }: DataSubject,
): Promise<Pick<PersonData, "groups" | "budgets" | "fairShareGpuSeconds" | "tokens">> {
  const groups = await db
    .selectFrom("user_group_members")
    .select("group_name")
    .where("user_name", "=", name)
    .execute();
  const budgets = await db
    .selectFrom("budgets")
    .select(["amount", "action"])
    .where("scope", "=", "user")
    .where("subject", "=", name)
    .execute();
  const share = await db
    .selectFrom("fair_share")
    .select("gpu_seconds")
    .where("share_key", "=", name)
    .executeTakeFirst();
  const tokens =
    user === undefined
      ? []
      : await db.selectFrom("api_tokens").selectAll().where("user_id", "=", user.id).execute();
  return {
    groups: groups.map(({ group_name: group }) => group),
    budgets,
    fairShareGpuSeconds: share?.gpu_seconds ?? 0,
    tokens: tokens.map((token) => ({
      kind: token.kind,
      name: token.name,
      createdAt: token.created_at.toISOString(),
      expiresAt: token.expires_at.toISOString(),
      lastUsedAt: token.last_used_at?.toISOString() ?? null,
    })),
  };
}

async function readProcessRecords(db: Database, name: string): Promise<PersonData["processRecords"]> {
  const rows = await db
    .selectFrom("usage_process_records")
    .selectAll()
    .where("user_name", "=", name)
    .orderBy("id")
    .execute();
  return rows.map((row) => ({
    sessionId: row.session_id,
    connectionId: row.connection_id,
    program: row.program,
    account: row.account,
    fromAt: row.from_at.toISOString(),
    toAt: row.to_at.toISOString(),
    heldMs: row.held_ms,
    busyMs: row.busy_ms,
    cost: row.cost,
  }));
}

async function readAuditOf(db: Database, subject: DataSubject): Promise<PersonData["audit"]> {
  const { rows } = await sql<{
    at: Date;
    kind: string;
    session_id: string | null;
    client_key: string | null;
    peer: string | null;
    reason: string;
  }>`select at, kind, session_id, client_key, peer, reason from audit where ${tellsOf(subject)} order by at`.execute(
    db,
  );
  return rows.map((row) => ({
    at: row.at.toISOString(),
    kind: row.kind,
    sessionId: row.session_id,
    client: thumbprintSchema.nullable().parse(row.client_key),
    peer: row.peer,
    reason: row.reason,
  }));
}

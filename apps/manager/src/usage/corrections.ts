import {
  FarpoolError,
  type SessionId,
  type UsageRecord,
  type usageCorrectionSchema,
} from "@farpool/contract";
import { sql } from "kysely";
import type * as z from "zod";
import type { Database, Tx } from "../database/connect.ts";
import { attributionColumns, type Attribution } from "./attribution.ts";
import { insertRecords } from "./insert.ts";
import { toUsageRecord } from "./records.ts";
import { readSettings } from "./tariff.ts";
import { busyPerGpu, readUntold, type ToldGpu } from "./telling.ts";

interface Corrected extends Attribution {
  id: SessionId;
  name: string | null;
  program: string | null;
}

/** An amount that an administrator adds to, or takes from, what a session costs: a record of its own, of now. */
export async function correctUsage(
  db: Database,
  { sessionId, amount, reason }: z.output<typeof usageCorrectionSchema>,
): Promise<UsageRecord> {
  return db.transaction().execute(async (tx) => {
    const session = await readCorrected(tx, sessionId);
    const gpus = await lastGpus(tx, sessionId);
    const [first] = gpus;
    if (first === undefined) {
      throw new FarpoolError("FARPOOL_CONFLICT", `the session ${sessionId} has no usage records to correct`, {
        hint: "a session gets its records when it is over, and at the end of each day",
      });
    }
    const { currency, now } = await readSettings(tx);
    const sums = { heldMs: 0, chargedMs: 0, busyMs: 0, cost: amount };
    const span = { fromMs: now.getTime(), toMs: now.getTime() };
    const gpu = { ...first, ...sums, ...span, pricePerHour: null, note: reason };
    const process = { ...sums, ...span, connectionId: null, program: session.program };
    await insertRecords(tx, [{ session, gpus: [gpu], processes: [process] }], {
      kind: "correction",
      currency,
    });
    const written = await tx
      .selectFrom("usage_records")
      .selectAll()
      .where("session_id", "=", sessionId)
      .orderBy("id", "desc")
      .limit(1)
      .executeTakeFirstOrThrow();
    return toUsageRecord(written);
  });
}

/**
 * Workers' last words that came when all records of their sessions were written (a server that was given up came back):
 * the busy time that is missing there becomes records of its own.
 */
export async function correctBusy(db: Database, ids: readonly SessionId[]): Promise<void> {
  for (const id of ids) {
    await db.transaction().execute(async (tx) => {
      // One at a time: two reports with the same words must not both be told.
      const over = await sql`select 1 from sessions where id = ${id} and not usage_open for update`.execute(
        tx,
      );
      const processes = over.rows.length === 0 ? [] : ((await readUntold(tx, [id])).get(id) ?? []);
      const gpus = processes.length === 0 ? [] : await lastGpus(tx, id);
      const [first] = gpus;
      if (first === undefined) return;
      const session = await readCorrected(tx, id);
      const { currency } = await readSettings(tx);
      const span = { fromMs: first.fromMs, toMs: first.toMs, heldMs: 0, chargedMs: 0, cost: 0 };
      const busy = busyPerGpu(gpus, processes);
      const note = "counted by its workers, and told after the session's records were written";
      const told = {
        session,
        gpus: gpus.map((gpu, index) => ({ ...gpu, ...span, busyMs: busy[index] ?? 0, note })),
        processes: processes.map(({ connectionId, program, busyMs }) => ({
          ...span,
          connectionId,
          program,
          busyMs,
        })),
      };
      await insertRecords(tx, [told], { kind: "correction", currency });
    });
  }
}

async function readCorrected(tx: Tx, id: SessionId): Promise<Corrected> {
  const { rows } = await sql<Corrected>`
    select session.id, session.name, session.client_program as program, ${attributionColumns()}
      from sessions session where session.id = ${id}`.execute(tx);
  const [session] = rows;
  if (session === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no session ${id}`);
  return session;
}

/** The GPUs of a session, as its last records tell of them. */
async function lastGpus(tx: Tx, id: SessionId): Promise<ToldGpu[]> {
  const { rows } = await sql<ToldGpu & { from_at: Date; to_at: Date }>`
    select distinct on (ordinal) ordinal, gpu_uuid as "gpuUuid", model, server_id as "serverId",
           server_name as "serverName", price_per_hour as "pricePerHour", from_at, to_at
      from usage_records where session_id = ${id} and kind = 'usage' order by ordinal, from_at desc`.execute(
    tx,
  );
  return rows.map(({ from_at: from, to_at: to, ...gpu }) => ({
    ...gpu,
    fromMs: from.getTime(),
    toMs: to.getTime(),
    heldMs: 0,
    chargedMs: 0,
    busyMs: 0,
    cost: 0,
    note: null,
  }));
}

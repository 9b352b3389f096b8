import type { PrivacySettings, UsageRecord, usageRecordsSchema } from "@farpool/contract";
import { sql, type Selectable } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import type { UsageRecordsTable } from "../database/schema-usage.ts";
import { someoneAt } from "../privacy/settings.ts";
import { inSnapshot, readOpenUsage, withoutNames, type OpenUsage, type RangeQuery } from "./report.ts";

interface Query extends RangeQuery {
  readonly after: number;
  readonly limit: number;
}

/** A page of records in the order in which they were written; the last one ends with what goes on so far. */
export async function listRecords(db: Database, query: Query): Promise<z.output<typeof usageRecordsSchema>> {
  return inSnapshot(db, query, async (tx, { tariff, range, privacy }) => {
    const from = range.fromMs === null ? null : new Date(range.fromMs);
    const rows = await tx
      .selectFrom("usage_records")
      .selectAll()
      .where("id", ">", query.after)
      .where(sql<boolean>`(${from}::timestamptz is null or from_at >= ${from})`)
      .where("from_at", "<", new Date(range.toMs))
      .where(sql<boolean>`(${range.user}::text is null or user_name = ${range.user})`)
      .orderBy("id")
      .limit(query.limit)
      .execute();
    const isLast = rows.length < query.limit;
    const open = isLast ? await readOpenUsage(tx, tariff, range) : [];
    const { pool_id: poolId } = await tx
      .selectFrom("pool_identity")
      .select("pool_id")
      .executeTakeFirstOrThrow();
    return {
      poolId,
      currency: tariff.currency,
      timeZone: tariff.timeZone,
      records: [
        ...rows.map((row) => withoutRecordNames(toUsageRecord(row), privacy)),
        ...open.flatMap((each) => openRecords(withoutNames(each, privacy))),
      ],
      next: isLast ? null : (rows.at(-1)?.id ?? null),
    };
  });
}

function withoutRecordNames(
  record: UsageRecord,
  { tellsPrograms, tellsAccounts }: PrivacySettings,
): UsageRecord {
  const isHidden = !tellsAccounts && record.userSource === "reported";
  return {
    ...record,
    ...(isHidden && { user: someoneAt(record.client) }),
    ...(!tellsPrograms && { program: null }),
  };
}

export function toUsageRecord(row: Selectable<UsageRecordsTable>): UsageRecord {
  return {
    id: row.id,
    kind: row.kind,
    sessionId: row.session_id,
    sessionName: row.session_name,
    gpuUuid: row.gpu_uuid,
    model: row.model,
    serverName: row.server_name,
    user: row.user_name,
    userSource: row.user_source,
    client: row.client,
    project: row.project,
    labels: row.labels,
    program: row.program,
    fromAt: row.from_at.toISOString(),
    toAt: row.to_at.toISOString(),
    heldMs: row.held_ms,
    chargedMs: row.charged_ms,
    busyMs: row.busy_ms,
    pricePerHour: row.price_per_hour,
    cost: row.cost,
    note: row.note,
  };
}

function openRecords({ session, gpus }: OpenUsage): UsageRecord[] {
  return gpus.map((gpu) => ({
    id: null,
    kind: "usage",
    sessionId: session.id,
    sessionName: session.name,
    gpuUuid: gpu.gpuUuid,
    model: gpu.model,
    serverName: gpu.serverName,
    user: session.user_name,
    userSource: session.user_source,
    client: session.client,
    project: session.project,
    labels: session.labels,
    program: session.program,
    fromAt: new Date(gpu.fromMs).toISOString(),
    toAt: new Date(gpu.toMs).toISOString(),
    heldMs: gpu.heldMs,
    chargedMs: gpu.chargedMs,
    busyMs: gpu.busyMs,
    pricePerHour: gpu.pricePerHour,
    cost: gpu.cost,
    note: gpu.note,
  }));
}

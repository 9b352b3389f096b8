import type { SessionId } from "@farpool/contract";
import type { Tx } from "../database/connect.ts";
import type { Attribution } from "./attribution.ts";
import type { Telling } from "./telling.ts";

/** Far below the 65,535 parameters of a statement. */
const AT_ONCE = 1_000;

interface Subject extends Attribution {
  readonly id: SessionId;
  readonly name: string | null;
  readonly program: string | null;
}

interface Told extends Telling {
  readonly session: Subject;
}

interface Kind {
  readonly kind: "usage" | "correction";
  readonly currency: string;
}

/** Writes records, with what their sessions are called today: later names change nothing of them. */
export async function insertRecords(tx: Tx, all: readonly Told[], kind: Kind): Promise<void> {
  const records = all.flatMap((told) => recordsOf(told, kind));
  const ofProcesses = all.flatMap((told) => processRecordsOf(told, kind));
  for (const page of pages(records))
    await tx
      .insertInto("usage_records")
      .values([...page])
      .execute();
  for (const page of pages(ofProcesses))
    await tx
      .insertInto("usage_process_records")
      .values([...page])
      .execute();
}

function recordsOf({ session, gpus }: Told, { kind, currency }: Kind) {
  const labels = JSON.stringify(session.labels);
  return gpus.map((gpu) => ({
    ...common(session, gpu),
    kind,
    session_name: session.name,
    ordinal: gpu.ordinal,
    gpu_uuid: gpu.gpuUuid,
    model: gpu.model,
    server_id: gpu.serverId,
    server_name: gpu.serverName,
    client: session.client,
    project: session.project,
    labels,
    program: session.program,
    price_per_hour: gpu.pricePerHour,
    currency,
    note: gpu.note,
  }));
}

function processRecordsOf({ session, processes }: Told, { kind }: Kind) {
  return processes.map((process) => ({
    ...common(session, process),
    kind,
    connection_id: process.connectionId,
    program: process.program,
    account: session.account,
  }));
}

function common(session: Subject, each: Telling["gpus"][number] | Telling["processes"][number]) {
  return {
    session_id: session.id,
    user_name: session.user_name,
    user_source: session.user_source,
    from_at: new Date(each.fromMs),
    to_at: new Date(each.toMs),
    held_ms: each.heldMs,
    charged_ms: each.chargedMs,
    busy_ms: each.busyMs,
    cost: each.cost,
  };
}

function pages<T>(rows: readonly T[]): ReadonlyArray<readonly T[]> {
  return Array.from({ length: Math.ceil(rows.length / AT_ONCE) }, (_, page) =>
    rows.slice(page * AT_ONCE, (page + 1) * AT_ONCE),
  );
}

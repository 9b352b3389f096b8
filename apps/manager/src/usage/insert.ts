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

interface Records extends Telling {
  readonly kind: "usage" | "correction";
  readonly currency: string;
}

/** Writes records, with what the session is called today: later names change nothing of them. */
export async function insertRecords(
  tx: Tx,
  session: Subject,
  { gpus, processes, kind, currency }: Records,
): Promise<void> {
  const common = {
    kind,
    session_id: session.id,
    user_name: session.user_name,
    user_source: session.user_source,
  };
  const numbers = (each: Telling["gpus"][number] | Telling["processes"][number]) => ({
    from_at: new Date(each.fromMs),
    to_at: new Date(each.toMs),
    held_ms: each.heldMs,
    charged_ms: each.chargedMs,
    busy_ms: each.busyMs,
    cost: each.cost,
  });
  const records = gpus.map((gpu) => ({
    ...common,
    ...numbers(gpu),
    session_name: session.name,
    ordinal: gpu.ordinal,
    gpu_uuid: gpu.gpuUuid,
    model: gpu.model,
    server_id: gpu.serverId,
    server_name: gpu.serverName,
    client: session.client,
    project: session.project,
    labels: JSON.stringify(session.labels),
    program: session.program,
    price_per_hour: gpu.pricePerHour,
    currency,
    note: gpu.note,
  }));
  const ofProcesses = processes.map((process) => ({
    ...common,
    ...numbers(process),
    connection_id: process.connectionId,
    program: process.program,
    account: session.account,
  }));
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

function pages<T>(rows: readonly T[]): ReadonlyArray<readonly T[]> {
  return Array.from({ length: Math.ceil(rows.length / AT_ONCE) }, (_, page) =>
    rows.slice(page * AT_ONCE, (page + 1) * AT_ONCE),
  );
}

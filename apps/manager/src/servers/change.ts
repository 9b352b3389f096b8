import {
  FarpoolError,
  serverLabelsSchema,
  type Server,
  type ServerChange,
  type ServerId,
} from "@farpool/contract";
import { sql } from "kysely";
import { inPlacement, now, type Database, type Tx } from "../database/connect.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { listServers } from "./read.ts";

/** Drains a server, announces maintenance, changes labels. What runs on it goes on in any case. */
export async function changeServer(db: Database, id: ServerId, change: ServerChange): Promise<Server> {
  await inPlacement(db, async (tx) => {
    const row = await tx.selectFrom("servers").selectAll().where("id", "=", id).executeTakeFirst();
    if (row === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server ${id}`);
    if (change.drain !== undefined) {
      const drained = change.drain
        ? { drained_at: row.drained_at ?? now(), drain_reason: change.reason }
        : { drained_at: null, drain_reason: null };
      await tx.updateTable("servers").set(drained).where("id", "=", id).execute();
    }
    if (change.maintenance !== undefined) await announceMaintenance(tx, id, change.maintenance);
    if (change.labels !== undefined) {
      const given = JSON.stringify({ ...row.given_labels, ...checkedLabels(change.labels) });
      await tx.updateTable("servers").set({ given_labels: given }).where("id", "=", id).execute();
    }
    await runPlacementPass(tx);
  });
  const server = (await listServers(db)).find((candidate) => candidate.id === id);
  if (server === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server ${id} any more`);
  return server;
}

async function announceMaintenance(
  tx: Tx,
  id: ServerId,
  maintenance: NonNullable<ServerChange["maintenance"]> | null,
): Promise<void> {
  const values =
    maintenance === null
      ? { maintenance_until: null, maintenance_message: null }
      : { maintenance_until: new Date(maintenance.until), maintenance_message: maintenance.message };
  const { isPast } = await tx
    .updateTable("servers")
    .set(values)
    .where("id", "=", id)
    .returning(sql<boolean>`coalesce(maintenance_until <= clock_timestamp(), false)`.as("isPast"))
    .executeTakeFirstOrThrow();
  if (!isPast) return;
  throw new FarpoolError(
    "FARPOOL_BAD_REQUEST",
    `maintenance ends in the future, not at ${maintenance?.until}`,
    {
      hint: "--for 2h counts from now; --until takes a date with its time",
    },
  );
}

function checkedLabels(labels: NonNullable<ServerChange["labels"]>): Record<string, string | null> {
  // One that is taken away has a name, too.
  const named = Object.entries(labels).map(([name, text]) => [name, text ?? ""]);
  const checked = serverLabelsSchema.safeParse(Object.fromEntries(named));
  if (checked.success) return labels;
  const [issue] = checked.error.issues;
  const path = issue?.path.join(".") ?? "";
  const [detail] = issue?.code === "invalid_key" ? issue.issues : [issue];
  throw new FarpoolError(
    "FARPOOL_BAD_REQUEST",
    `the label ${path} is not one: ${detail?.message ?? "it is not understood"}`,
    { hint: "labels look like zone=b" },
  );
}

/** Whether a maintenance has come to its end since the last look. */
export async function isMaintenanceOver(db: Database): Promise<boolean> {
  const over = await db
    .selectFrom("servers")
    .select("id")
    .where("maintenance_until", "<=", now())
    .executeTakeFirst();
  return over !== undefined;
}

/** Servers whose maintenance is over serve again. */
export async function endMaintenance(tx: Tx): Promise<void> {
  await tx
    .updateTable("servers")
    .set({ maintenance_until: null, maintenance_message: null })
    .where("maintenance_until", "<=", now())
    .execute();
}

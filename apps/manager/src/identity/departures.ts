import { FarpoolError, serverIdSchema, type Machine } from "@farpool/contract";
import { inPlacement, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { endInPlacement } from "../sessions/end.ts";
import { isOn } from "../sessions/places.ts";
import { readSession } from "../sessions/read.ts";
import { recordAudit } from "./audit.ts";
import { revokeInPlacement } from "./clients.ts";
import { listMachines } from "./machines.ts";

export interface Departure {
  readonly by: Principal;
  readonly reason: string | null;
  /** The machine itself says so, rather than an administrator. */
  readonly isLeaving: boolean;
}

/** A machine is trusted no longer, by its own wish or an administrator's: its sessions end, its certificate opens nothing. */
export function dismissMachine(db: Database, id: string, departure: Departure): Promise<Machine> {
  return inPlacement(db, async (tx) => {
    const [machine] = await listMachines(tx, id);
    if (machine === undefined)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no machine ${id}`, {
        hint: "'farpool clients' and 'farpool servers' list them",
      });
    if (machine.revokedAt !== null) return machine;
    const { by, isLeaving } = departure;
    const why = departure.reason === null ? "" : `: ${departure.reason}`;
    const deed = isLeaving ? "left the pool" : `was removed by ${by.description}`;
    const reason = `the ${machine.role} ${machine.name} ${deed}${why}`;
    await tx
      .updateTable("machines")
      .set({ revoked_at: now(), revoked_reason: `it ${deed}${why}` })
      .where("id", "=", id)
      .execute();
    const isClient = machine.role === "client";
    await recordAudit(tx, {
      kind: isLeaving ? "machine-left" : "machine-revoked",
      clientKey: isClient ? machine.thumbprint : null,
      serverId: isClient ? null : serverIdSchema.parse(id),
      peer: by.peer,
      reason,
    });
    if (isClient)
      await revokeInPlacement(tx, machine.thumbprint, { reason: `it ${deed}${why}`, message: reason });
    else await emptyServer(tx, id, reason);
    await runPlacementPass(tx);
    const [dismissed] = await listMachines(tx, id);
    return dismissed ?? machine;
  });
}

/** Its agent will not be heard again: what it held is over, and nothing is placed on it. */
async function emptyServer(tx: Tx, id: string, message: string): Promise<void> {
  const serverId = serverIdSchema.parse(id);
  const living = await tx
    .selectFrom("sessions")
    .select("id")
    .where(isOn(serverId))
    .where("state", "in", ["granted", "active"])
    .execute();
  for (const session of living)
    await endInPlacement(tx, await readSession(tx, session.id), { reason: "server-lost", message });
  await tx.updateTable("gpus").set({ present: false }).where("server_id", "=", serverId).execute();
  await tx
    .updateTable("servers")
    .set({ acceptor_ready: false, last_seen_at: nowPlus(-86_400_000) })
    .where("id", "=", serverId)
    .execute();
}

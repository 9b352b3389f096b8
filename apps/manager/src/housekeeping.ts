import { formatDuration, TIMES } from "@farpool/contract";
import type { Selectable } from "kysely";
import { inPlacement, now, nowPlus, type Database, type Tx } from "./database/connect.ts";
import type { SessionsTable } from "./database/schema.ts";
import { runPlacementPass } from "./placement/pass.ts";
import { findOver, warnBeforeEnd } from "./sessions/lifetime.ts";
import { createReconsider } from "./placement/reconsider.ts";
import { endInPlacement, releaseInPlacement, type Ending, type Released } from "./sessions/end.ts";
import { heldParts, placeOf } from "./sessions/places.ts";
import { endMaintenance, isMaintenanceOver } from "./servers/change.ts";
import { recordServerLost } from "./usage/outages.ts";
import type { Holds } from "./sessions/hold.ts";
import { readSession } from "./sessions/read.ts";

const PERIOD_MS = 500;

/** What happens by the passing of time: leases lapse, waits end, silent servers are given up. */
export function startHousekeeping(
  db: Database,
  holds: Holds,
  onError: (error: unknown) => void,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const reconsider = createReconsider(db);
  const loop = (async () => {
    while (!stopping.signal.aborted) {
      try {
        await holds.renewHeld();
        await tick(db);
        await reconsider();
      } catch (error) {
        onError(error);
      }
      await pause(PERIOD_MS, stopping.signal);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}

type Due = Pick<Selectable<SessionsTable>, "id"> & { ending: Ending };

export async function tick(db: Database): Promise<void> {
  await warnBeforeEnd(db);
  const isQuiet = (await findDue(db)).length === 0 && (await findStuck(db)).length === 0;
  if (isQuiet && !(await isMaintenanceOver(db))) return;
  await inPlacement(db, async (tx) => {
    for (const { id, ending } of await findDue(tx)) {
      await endInPlacement(tx, await readSession(tx, id), ending);
      if (ending.reason === "server-lost") await recordServerLost(tx, id);
    }
    await endMaintenance(tx);
    await releaseInPlacement(tx, await findStuck(tx));
    await runPlacementPass(tx);
  });
}

async function findDue(db: Database | Tx): Promise<Due[]> {
  const [lapsed, waited, lost, over] = await Promise.all([
    db
      .selectFrom("sessions")
      .select("id")
      .where("state", "<>", "ended")
      .where("lease_expires_at", "<", now())
      // A reserved session that has its GPUs lives without a process.
      .where((eb) => eb.or([eb("purpose", "<>", "reserve"), eb("granted_at", "is", null)]))
      .execute(),
    db
      .selectFrom("sessions")
      .select(["id", "requested_at", "wait_until"])
      .where("state", "in", ["requested", "queued"])
      .where("wait_until", "<", now())
      .execute(),
    db
      .selectFrom("sessions")
      .leftJoin("session_servers", heldParts)
      .innerJoin("servers", (join) => join.on("servers.id", "=", placeOf))
      .select(["sessions.id", "servers.name"])
      .where("state", "in", ["granted", "active"])
      .where("servers.last_seen_at", "<", nowPlus(-TIMES.serverLostMs))
      // Of several the one that has been away the longest is named: the last one here.
      .orderBy("servers.last_seen_at", "desc")
      .execute(),
    findOver(db),
  ]);
  const due = new Map<string, Due>(over.map((each) => [each.id, each]));
  for (const { id, requested_at: since, wait_until: until } of waited) {
    const limit = formatDuration((until ?? since).getTime() - since.getTime());
    due.set(id, { id, ending: { reason: "wait-over", message: `waited ${limit}, none became free` } });
  }
  for (const { id, name } of lost) {
    due.set(id, {
      id,
      ending: {
        reason: "server-lost",
        message: `the server ${name} has not answered for ${TIMES.serverLostMs / 1_000} s`,
      },
    });
  }
  for (const { id } of lapsed)
    due.set(id, { id, ending: { reason: "client-lost", message: "the client is gone" } });
  return [...due.values()];
}

/** Ended sessions of a server that will not report any more. If it comes back, its agent closes them first. */
function findStuck(db: Database | Tx): Promise<Released[]> {
  return db
    .selectFrom("sessions")
    .leftJoin("session_servers", heldParts)
    .innerJoin("servers", (join) => join.on("servers.id", "=", placeOf))
    .select(["sessions.id", "servers.id as serverId"])
    .where("state", "=", "ended")
    .where("sessions.released_at", "is", null)
    .where("servers.last_seen_at", "<", nowPlus(-TIMES.serverLostMs))
    .execute();
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener("abort", done);
  });
}

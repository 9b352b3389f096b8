import { FarpoolError, type DesiredState, type ServerId } from "@farpool/contract";
import type { Database } from "../database/connect.ts";
import { readRevoked } from "../identity/clients.ts";
import { readManagerKeys } from "../identity/pool-identity.ts";

/** The sessions a server has to hold. One snapshot, so revision and set belong together. */
export async function readDesired(db: Database, serverId: ServerId, graceMs: number): Promise<DesiredState> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const server = await tx
        .selectFrom("servers")
        .select("desired_revision")
        .where("id", "=", serverId)
        .executeTakeFirst();
      if (server === undefined) throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no server ${serverId}`);
      const rows = await tx
        .selectFrom("sessions")
        .innerJoin("session_gpus", "session_gpus.session_id", "sessions.id")
        .select(["sessions.id", "sessions.secret", "gpu_uuid", "memory_limit_bytes"])
        .where("sessions.server_id", "=", serverId)
        .where("sessions.state", "in", ["granted", "active"])
        .orderBy("sessions.queue_number")
        .orderBy("ordinal")
        .execute();
      const sessions = new Map<string, DesiredState["sessions"][number]>();
      for (const row of rows) {
        const session = sessions.get(row.id) ?? {
          id: row.id,
          secret: row.secret,
          gpus: [],
          graceSeconds: graceMs / 1_000,
        };
        sessions.set(row.id, session);
        session.gpus.push({ uuid: row.gpu_uuid, memoryLimitBytes: row.memory_limit_bytes });
      }
      return {
        revision: server.desired_revision,
        sessions: [...sessions.values()],
        trust: await readTrust(tx),
      };
    });
}

async function readTrust(db: Database): Promise<DesiredState["trust"]> {
  return { managerKeys: await readManagerKeys(db), revoked: await readRevoked(db) };
}

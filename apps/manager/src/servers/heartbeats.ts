import { TIMES, type agentHeartbeatSchema, type ServerId } from "@farpool/contract";
import { sql } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { heartbeatAgent } from "./register.ts";

/** So long a heartbeat waits for others: one statement is for all of them, whatever the number of servers. */
const GATHER_MS = 50;

type Heartbeat = z.output<typeof agentHeartbeatSchema>;

export interface Heartbeats {
  /** Resolves when it is stored. */
  accept(serverId: ServerId, heartbeat: Heartbeat): Promise<void>;
}

interface Waiting {
  readonly serverId: ServerId;
  readonly heartbeat: Heartbeat;
  readonly resolve: (outcome: Promise<void> | void) => void;
  readonly reject: (error: unknown) => void;
}

/** Takes heartbeats. The usual one says no more than that its server is still as it was. */
export function createHeartbeats(db: Database): Heartbeats {
  let gathered: Waiting[] = [];

  async function store(): Promise<void> {
    const all = gathered;
    gathered = [];
    try {
      const known = await touchServers(db, all);
      for (const { serverId, heartbeat, resolve } of all)
        resolve(known.has(serverId) ? undefined : heartbeatAgent(db, serverId, heartbeat));
    } catch (error) {
      for (const { reject } of all) reject(error);
    }
  }

  return {
    accept(serverId, heartbeat) {
      const { inventory, host, acceptorReady } = heartbeat;
      const isUsual = inventory === null && (host === null || host === undefined) && acceptorReady;
      if (!isUsual) return heartbeatAgent(db, serverId, heartbeat);
      return new Promise((resolve, reject) => {
        if (gathered.length === 0) setTimeout(() => void store(), GATHER_MS);
        gathered.push({ serverId, heartbeat, resolve, reject });
      });
    },
  };
}

/**
 * Those of them that were heard of lately and took sessions: for these nothing else changes. A row that somebody holds is
 * passed over, and waited for alone: who waits for one while having others may be waited for, and delays them all.
 */
async function touchServers(db: Database, all: readonly Waiting[]): Promise<ReadonlySet<ServerId>> {
  const { rows } = await sql<{ id: ServerId }>`
    update servers set last_seen_at = clock_timestamp(), heard_at = clock_timestamp(),
      reported_at = case when has_nothing_new then clock_timestamp() else reported_at end
    from (
      select servers.id as server, has_nothing_new
      from unnest(${all.map(({ serverId }) => serverId)}::uuid[],
        ${all.map(({ heartbeat }) => heartbeat.hasNothingNew)}::boolean[]) as beat(server, has_nothing_new)
      join servers on servers.id = beat.server
      where acceptor_ready
        and last_seen_at > clock_timestamp() - ${TIMES.serverSilentMs} * interval '1 millisecond'
      for no key update of servers skip locked
    ) heard
    where id = server
    returning id`.execute(db);
  return new Set(rows.map(({ id }) => id));
}

import type { ServerId } from "@farpool/contract";
import {
  explain,
  place,
  PoolIndex,
  schedule,
  type Explanation,
  type PassResult,
  type ServerCapacity,
  type WaitingSession,
} from "@farpool/domain";
import { announce } from "../database/changes.ts";
import type { Tx } from "../database/connect.ts";
import { allowedServers, withinLimits } from "../policies/allowed-servers.ts";
import { readCapacity } from "./capacity.ts";
import {
  readAccounts,
  readPastLengths,
  readQueue,
  readRunning,
  type QueueState,
  type Told,
} from "./read-queue.ts";
import { writeGrants, writeQueue } from "./write-decisions.ts";

/** An estimate that moved by less than this, or by less than a tenth of what is left, is not news. */
const ESTIMATE_NEWS_MS = 15_000;

/**
 * One scheduling pass over all that wait. The caller holds the placement lock: a session that finds
 * room is granted in the transaction that inserted it. Statements are for all sessions at once, whatever their
 * number; `statements.test.ts` counts them.
 */
export async function runPlacementPass(tx: Tx, capacity?: readonly ServerCapacity[]): Promise<void> {
  const queue = await readQueue(tx);
  if (queue === undefined) return;
  const servers = capacity ?? (await readCapacity(tx));
  const allowed = allowedServers(servers);
  const waiting = queue.waiting.map((session) => withinLimits(session, session.limits, allowed));
  const [first, ...others] = waiting;
  if (first !== undefined && others.length === 0 && (await grantAlone(tx, first, servers))) return;
  const users = [...new Set(waiting.map(({ user }) => user))];
  const running = await readRunning(tx);
  const accounts = await readAccounts(tx, users, queue.settings.halfLifeMs);
  const lengths = await readPastLengths(tx);
  const index = new PoolIndex(servers, running);
  const { nowMs, settings } = queue;
  const nobody = { usedGpuSeconds: 0, heldGpus: 0 };
  const result = schedule({
    ...{ nowMs, waiting, index, lengths, settings },
    accounts: (user) => accounts.get(user) ?? nobody,
  });
  await writeGrants(tx, result.grants, index);
  await tellQueue(tx, { queue, result, explanations: explain(result) });
}

/**
 * The usual case: nobody else waits, and there is room. Neither the past nor others matter then. The caller holds
 * the placement lock.
 */
export async function grantAlone(
  tx: Tx,
  session: WaitingSession,
  servers: readonly ServerCapacity[],
): Promise<boolean> {
  const index = new PoolIndex(servers);
  const placement = place(session, index);
  if (placement === undefined) return false;
  await writeGrants(tx, [{ session, placement }], index);
  return true;
}

async function tellQueue(
  tx: Tx,
  {
    queue,
    result,
    explanations,
  }: {
    readonly queue: QueueState;
    readonly result: PassResult;
    readonly explanations: readonly Explanation[];
  },
): Promise<void> {
  const reserved = new Map(result.reservations.map(({ sessionId, serverId }) => [sessionId, serverId]));
  const changes = explanations.flatMap((explanation) => {
    const told = queue.told.get(explanation.id);
    const change = {
      ...explanation,
      reservedOn: reserved.get(explanation.id) ?? null,
      isNew: told?.isNew !== false,
    };
    return told !== undefined && isOldNews(change, told, queue.nowMs) ? [] : [change];
  });
  await writeQueue(tx, changes);
}

function isOldNews(
  now: Explanation & { readonly reservedOn: ServerId | null },
  told: Told,
  nowMs: number,
): boolean {
  if (told.isNew || told.position !== now.position || told.waitsFor !== now.waitsFor) return false;
  if (told.reservedOn !== now.reservedOn) return false;
  if (told.estimateMs === null || now.estimateMs === null) return told.estimateMs === now.estimateMs;
  const least = Math.max(ESTIMATE_NEWS_MS, 0.1 * (now.estimateMs - nowMs));
  return Math.abs(told.estimateMs - now.estimateMs) < least;
}

/** The set of sessions a server has to hold changed; returns the revision from which on that is so. */
export async function bumpDesired(tx: Tx, serverId: ServerId): Promise<number> {
  const { desired_revision: revision } = await tx
    .updateTable("servers")
    .set((eb) => ({ desired_revision: eb("desired_revision", "+", 1) }))
    .where("id", "=", serverId)
    .returning("desired_revision")
    .executeTakeFirstOrThrow();
  await announce(tx, `server/${serverId}`);
  return revision;
}

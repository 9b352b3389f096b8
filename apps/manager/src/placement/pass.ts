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
import type { Tx } from "../database/connect.ts";
import { allowedServers, withinLimits } from "../policies/allowed-servers.ts";
import { readCapacity } from "./capacity.ts";
import { readOthers, readQueue, type QueueState, type Told } from "./read-queue.ts";
import { writeDecisions, type QueueChange } from "./write-decisions.ts";

/** An estimate that moved by less than this, or by less than a tenth of what is left, is not news. */
const ESTIMATE_NEWS_MS = 15_000;

/**
 * One scheduling pass over all that wait. The caller holds the placement lock: a session that finds
 * room is granted in the transaction that inserted it. Statements are for all sessions at once, whatever their
 * number; `statements.test.ts` counts them.
 */
export async function runPlacementPass(tx: Tx, known: PassKnown = {}): Promise<void> {
  const { isFull = false } = known;
  const queue = await readQueue(tx, { isWithOthers: isFull });
  if (queue === undefined) return;
  const servers = known.servers ?? (await readCapacity(tx));
  const allowed = allowedServers(servers);
  const waiting = queue.waiting.map((session) => withinLimits(session, session.limits, allowed));
  const [first, ...rest] = waiting;
  const isAlone = first !== undefined && rest.length === 0;
  if (isAlone && !isFull && (await grantAlone(tx, first, servers))) return;
  const { running, accounts, lengths } = queue.others ?? (await readOthers(tx));
  const index = new PoolIndex(servers, running);
  const { nowMs, settings } = queue;
  const nobody = { usedGpuSeconds: 0, heldGpus: 0 };
  const result = schedule({
    ...{ nowMs, waiting, index, lengths, settings },
    accounts: (user) => accounts.get(user) ?? nobody,
  });
  const news = newsOf(queue, result, explain(result));
  await writeDecisions(tx, { grants: result.grants, news, index });
}

/** What the caller knows already: in this transaction it stays true. */
interface PassKnown {
  readonly servers?: readonly ServerCapacity[];
  /** The only one that waits has found no room. */
  readonly isFull?: boolean;
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
  await writeDecisions(tx, { grants: [{ session, placement }], news: [], index });
  return true;
}

/** What those who wait are to be told: who has come, and whose place, reason or estimate has changed. */
function newsOf(
  queue: QueueState,
  result: PassResult,
  explanations: readonly Explanation[],
): readonly QueueChange[] {
  const reserved = new Map(result.reservations.map(({ sessionId, keptOn }) => [sessionId, keptOn]));
  return explanations.flatMap((explanation) => {
    const told = queue.told.get(explanation.id);
    const change = {
      ...explanation,
      reservedOn: reserved.get(explanation.id) ?? null,
      isNew: told?.isNew !== false,
    };
    return told !== undefined && isOldNews(change, told, queue.nowMs) ? [] : [change];
  });
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

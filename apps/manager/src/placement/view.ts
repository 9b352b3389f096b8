import type { Queue } from "@farpool/contract";
import type { Database } from "../database/connect.ts";
import { listQueued } from "../sessions/read.ts";
import { readScheduling } from "./fair-share.ts";
import { readAccounts } from "./read-queue.ts";

/** The queue as people want to see it. */
export async function readQueueView(db: Database): Promise<Queue> {
  const [entries, { halfLifeMs }] = await Promise.all([listQueued(db), readScheduling(db)]);
  const waiting = new Map<string, number>();
  for (const { shareKey } of entries) waiting.set(shareKey, (waiting.get(shareKey) ?? 0) + 1);
  const accounts = await readAccounts(db, [...waiting.keys()], halfLifeMs);
  const users = [...waiting].map(([shareKey, count]) => ({
    shareKey,
    usedGpuSeconds: accounts.get(shareKey)?.usedGpuSeconds ?? 0,
    heldGpus: accounts.get(shareKey)?.heldGpus ?? 0,
    waiting: count,
  }));
  return { entries, users: users.sort((a, b) => a.usedGpuSeconds - b.usedGpuSeconds), halfLifeMs };
}

import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import type { SessionDetail, UsageRecord } from "@farpool/contract";
import { waitFor } from "../program.ts";

/** As many as the manager tells at a time. */
const MOST = 1_000;
const PERIOD_MS = 5_000;

/** The event log of all sessions that ended and were released, gathered while it goes on. */
export interface Chronicle {
  /** Waits until all are over and told; all sessions, whole. */
  finish(): Promise<readonly SessionDetail[]>;
}

export function startChronicle(clients: readonly ManagerClient[]): Chronicle {
  const known = new Map<string, SessionDetail>();
  const stopping = new AbortController();
  let living = 0;

  async function gather(client: ManagerClient): Promise<void> {
    const { sessions } = await client.call("listSessions", { query: { ended: MOST } });
    living = sessions.filter(({ releasedAt }) => releasedAt === null).length;
    for (const { id, releasedAt } of sessions) {
      if (releasedAt === null || known.has(id)) continue;
      known.set(id, await client.call("showSession", { params: { sessionId: id } }));
    }
  }

  const any = async (): Promise<boolean> => {
    for (const client of clients) {
      // One of them may be dead at the moment.
      const isDone = await gather(client).then(
        () => true,
        () => false,
      );
      if (isDone) return true;
    }
    return false;
  };

  const loop = (async () => {
    while (!stopping.signal.aborted) {
      await any();
      await sleep(PERIOD_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  })();
  return {
    async finish() {
      stopping.abort();
      await loop;
      await waitFor("the end of all sessions", async () => (await any()) && living === 0, 60_000);
      return [...known.values()];
    },
  };
}

/** All usage records, once there is nothing that has none yet. */
export async function allRecords(client: ManagerClient): Promise<readonly UsageRecord[]> {
  return waitFor(
    "records of all sessions",
    async () => {
      const records: UsageRecord[] = [];
      for (let after: number | null = 0; after !== null;) {
        const page: { records: UsageRecord[]; next: number | null } = await client.call("usageRecords", {
          query: { after },
        });
        records.push(...page.records);
        after = page.next;
      }
      return records.every(({ id }) => id !== null) ? records : undefined;
    },
    60_000,
  );
}

import { setTimeout as sleep } from "node:timers/promises";
import type { Database } from "../database/connect.ts";
import { createClockWatch } from "./outages.ts";
import { requeueByBudget } from "./queue.ts";
import { rollUpSamples } from "./samples.ts";
import { settleUsage } from "./settle.ts";
import { readSettings } from "./tariff.ts";

/** Reports tell also what has no record yet, so nobody waits for this. */
const PERIOD_MS = 5_000;
const ROLL_UP_MS = 600_000;

/** Usage by the passing of time: records, budgets that are spent meanwhile, samples that grow old. */
export function startUsageHousekeeping(
  db: Database,
  onError: (error: unknown) => void,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const clock = createClockWatch(db);
  let rolledUpAt = Number.NEGATIVE_INFINITY;
  const loop = (async () => {
    while (!stopping.signal.aborted) {
      try {
        await clock.look();
        await settleUsage(db, stopping.signal);
        await requeueByBudget(db);
        if (performance.now() - rolledUpAt >= ROLL_UP_MS) {
          await rollUpSamples(db, (await readSettings(db)).now.getTime());
          rolledUpAt = performance.now();
        }
      } catch (error) {
        onError(error);
      }
      await sleep(PERIOD_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
    }
  })();
  return {
    async stop() {
      stopping.abort();
      await loop;
    },
  };
}

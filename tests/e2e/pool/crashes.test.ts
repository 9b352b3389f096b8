import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { UsageReport } from "@farpool/contract";
import { expect, it } from "vitest";
import { allRecords, startChronicle } from "../kit/crashes/chronicle.ts";
import { startKiller } from "../kit/crashes/kill.ts";
import { startLoad } from "../kit/crashes/load.ts";
import { createRandom } from "../kit/crashes/random.ts";
import { gpuUsers } from "../kit/crashes/servers.ts";
import { watchServers } from "../kit/crashes/watch.ts";
import { grantedTwice, wrongRecords } from "../kit/ledger.ts";
import { databases, startMachines } from "../kit/machines.ts";
import { example, runDirectly } from "../kit/pool.ts";
import { json } from "../kit/sessions.ts";

// Everybody is killed, again and again, while programs run. The oracle is the programs' own checks, what the kernel and the
// acceptors' notes say of servers, and sums over the event log: nothing of it comes from the manager's own usage code.
//
// FARPOOL_CRASH_MINUTES=10 FARPOOL_CRASH_SEED=7 FARPOOL_CRASH_DATABASE=embedded npx vitest run tests/e2e/pool/crashes.test.ts

// Only where somebody asks for it: its time is better spent alone on a machine.
const isAsked = process.env["FARPOOL_CRASH_MINUTES"] !== undefined;
const minutes = Number(process.env["FARPOOL_CRASH_MINUTES"] ?? 10);
const seed = Number(process.env["FARPOOL_CRASH_SEED"] ?? randomInt(2 ** 31));
const database = databases.find((each) => each === process.env["FARPOOL_CRASH_DATABASE"]) ?? "debian";
/** A lease, the start of a manager that was killed again and again, and what servers take to close a session. */
const FREE_AFTER_MS = 45_000;

const direct = new Map<string, Promise<string>>();

/** What a program prints where there is no pool, on as many GPUs. */
function printedDirectly(words: readonly string[], gpus: number): Promise<string> {
  const [name = "", ...rest] = words;
  const key = words.join(" ");
  const known =
    direct.get(key) ??
    runDirectly([example(name), ...rest], gpus).then(({ status, stdout, stderr }) => {
      if (status !== 0) throw new Error(`${key} fails without a pool: ${stderr}`);
      return stdout;
    });
  direct.set(key, known);
  return known;
}

it.runIf(isAsked)(
  `${minutes} minutes of kill -9 under load, seed ${seed}: no GPU granted twice or lost, usage adds up, programs are right`,
  async () => {
    const pool = await startMachines({
      database,
      servers: { "gpu-01": { gpus: 2, memory: "4GiB" }, "gpu-02": { gpus: 2, memory: "4GiB" } },
      clients: ["ws-1", "ws-2"],
    });
    try {
      const servers = [...pool.servers.values()];
      const watch = watchServers(servers);
      const chronicle = startChronicle(pool.managers.map(({ client }) => client));
      const load = startLoad({
        clients: [...pool.clients.values()],
        random: createRandom(seed),
        direct: printedDirectly,
        each: 3,
      });
      const killer = startKiller({
        ...{ heads: pool.managers, servers, load, everyMs: 1_200 },
        random: createRandom(seed + 1),
      });
      await sleep(minutes * 60_000);
      await killer.stop();
      await load.stop();
      await pool.expectNothingHeld(FREE_AFTER_MS);
      await watch.stop();
      const sessions = await chronicle.finish();
      const records = await allRecords(pool.admin.client);
      const report = await json<UsageReport>(pool.admin, "usage", "--by", "session");
      const { tally } = load;
      const summary = {
        seed,
        minutes,
        database,
        kills: killer.kills,
        sessions: sessions.length,
        records: records.length,
        looks: watch.looks(),
        shared: watch.shared(),
        ...tally,
      };
      process.stdout.write(`${JSON.stringify(summary)}\n`);

      expect.soft(tally.failures).toEqual([]);
      expect.soft(tally.passed).toBeGreaterThan(0);
      expect.soft(watch.violations).toEqual([]);
      expect.soft(servers.flatMap(gpuUsers)).toEqual([]);
      expect.soft(grantedTwice(sessions)).toEqual([]);
      expect
        .soft(
          sessions.flatMap((each) =>
            wrongRecords(
              each,
              records.filter(({ sessionId }) => sessionId === each.id),
            ),
          ),
        )
        .toEqual([]);
      const ids = new Set<string>(sessions.map(({ id }) => id));
      expect.soft(records.filter(({ sessionId }) => !ids.has(sessionId))).toEqual([]);
      // The command line tells the same, session by session.
      const byHand = new Map<string, number>();
      for (const { sessionId, heldMs } of records)
        byHand.set(sessionId, (byHand.get(sessionId) ?? 0) + heldMs);
      expect.soft(new Map(report.rows.map(({ key, heldMs }) => [key ?? "", heldMs]))).toEqual(byHand);
    } finally {
      await pool.stop();
    }
  },
  minutes * 60_000 + 240_000,
);

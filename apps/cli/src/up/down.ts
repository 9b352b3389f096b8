import { setTimeout as sleep } from "node:timers/promises";
import { FarpoolError } from "@farpool/contract";
import { poolFolders } from "@farpool/layout";
import { say } from "../core/output.ts";
import { signal } from "../run/end-processes.ts";
import { isAlive } from "../run/processes.ts";
import { endLeftovers } from "./leftovers.ts";
import { readLeftovers, readLiveRecord, removeRecord } from "./record.ts";

const PATIENCE_MS = 60_000;

export async function down(state: string | undefined): Promise<number> {
  const folders = poolFolders(process.env, state);
  const record = readLiveRecord(folders);
  if (record === undefined) {
    const leftovers = readLeftovers(folders).filter(isAlive);
    await endLeftovers(folders);
    removeRecord(folders);
    say(
      leftovers.length === 0
        ? "no pool runs on this machine"
        : "stopped what was left of a pool that had been killed",
    );
    return 0;
  }
  signal(record.pid, "SIGTERM");
  const deadline = Date.now() + PATIENCE_MS;
  while (isAlive(record)) {
    if (Date.now() > deadline) {
      throw new FarpoolError(
        "FARPOOL_UNAVAILABLE",
        `the pool (pid ${record.pid}) did not stop within ${PATIENCE_MS / 1_000} s`,
      );
    }
    await sleep(20);
  }
  say(`stopped (pid ${record.pid})`);
  return 0;
}

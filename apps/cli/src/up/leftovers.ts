import { setTimeout as sleep } from "node:timers/promises";
import type { PoolFolders } from "@farpool/layout";
import { signal } from "../run/end-processes.ts";
import { isAlive } from "../run/processes.ts";
import { readLeftovers, type RecordedProcess } from "./record.ts";

const PATIENCE_MS = 10_000;

/** Parts of an `up` that was killed go on without it; they are ended before others take their place. */
export async function endLeftovers(folders: PoolFolders): Promise<void> {
  await endAll(readLeftovers(folders));
}

export async function endAll(processes: readonly RecordedProcess[]): Promise<void> {
  const alive = (): RecordedProcess[] => processes.filter(isAlive);
  for (const { pid } of alive()) signal(pid, "SIGTERM");
  const deadline = Date.now() + PATIENCE_MS;
  while (alive().length > 0) {
    if (Date.now() > deadline) for (const { pid } of alive()) signal(pid, "SIGKILL");
    await sleep(20);
  }
}

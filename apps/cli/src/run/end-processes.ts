import { setTimeout as sleep } from "node:timers/promises";
import { descendants, isAlive, processInfo, type ProcessInfo } from "./processes.ts";

const PATIENCE_MS = 5_000;
const LOOK_MS = 50;
const BURIAL_MS = 2_000;

/** Ends a program and all that it started: TERM, five seconds, KILL. Returns when they are gone. */
export async function endProcesses(root: number, mark: string): Promise<void> {
  const known = new Map<string, ProcessInfo>();
  const collect = (): ProcessInfo[] => {
    for (const info of descendants(root, mark)) known.set(`${info.pid}/${info.startTime}`, info);
    return [...known.values()].filter(isAlive);
  };
  const told = new Set<string>();
  const deadline = Date.now() + PATIENCE_MS;
  for (let alive = collect(); alive.length > 0; alive = collect()) {
    const isOver = Date.now() >= deadline;
    for (const { pid, startTime } of alive) {
      const key = `${pid}/${startTime}`;
      if (isOver) signal(pid, "SIGKILL");
      else if (!told.has(key)) {
        told.add(key);
        signal(pid, "SIGTERM");
        // A stopped process acts on TERM only when it goes on.
        signal(pid, "SIGCONT");
      }
    }
    await sleep(LOOK_MS);
    if (isOver && Date.now() > deadline + PATIENCE_MS) return;
  }
  await buried([...known.values()]);
}

/** The dead whose parents died before them are collected by process 1, in some containers after a while. */
async function buried(processes: readonly ProcessInfo[]): Promise<void> {
  const deadline = Date.now() + BURIAL_MS;
  const isListed = ({ pid, startTime }: ProcessInfo): boolean => processInfo(pid)?.startTime === startTime;
  while (processes.some(isListed) && Date.now() < deadline) await sleep(10);
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It is gone, which is what was wanted, or it belongs to somebody else, whom we may not end.
  }
}

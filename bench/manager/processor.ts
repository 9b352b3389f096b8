import { readFileSync, readdirSync } from "node:fs";
import type { ManagerProcessor } from "./pool.ts";

/** Linux counts a process's time in these. */
const TICKS_PER_SECOND = 100;

interface Stat {
  readonly parent: number;
  /** Of its own, and of its children that have ended and were waited for. */
  readonly seconds: number;
}

/** A manager, and whatever it has started: its PostgreSQL with a process for each connection. */
export function secondsOfTree(pid: number): ManagerProcessor {
  const all = new Map<number, Stat>();
  for (const name of readdirSync("/proc")) {
    const stat = /^\d+$/.test(name) ? statOf(name) : undefined;
    if (stat !== undefined) all.set(Number(name), stat);
  }
  const isBelow = (stat: Stat): boolean => {
    const parent = all.get(stat.parent);
    return stat.parent === pid || (parent !== undefined && isBelow(parent));
  };
  const below = [...all.values()].filter(isBelow);
  return {
    manager: all.get(pid)?.seconds ?? 0,
    database: below.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

function statOf(pid: string): Stat | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, "utf8");
    // After the name in brackets, which may hold anything: state is field 3, the parent 4, user and system time are 14 and 15.
    const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return { parent: Number(fields[1]), seconds: ticks / TICKS_PER_SECOND };
  } catch {
    // It ended meanwhile.
    return undefined;
  }
}

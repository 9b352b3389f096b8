import { readdirSync, readFileSync } from "node:fs";

/** What `/proc/PID/stat` says about a process. The start time tells it from a later one of the same number. */
export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly terminal: number;
  readonly foregroundGroup: number;
  readonly startTime: string;
  readonly isZombie: boolean;
}

export function processInfo(pid: number | "self"): ProcessInfo | undefined {
  const text = read(`/proc/${pid}/stat`);
  // The name in parentheses may hold anything, parentheses too.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent, group, , terminal, foregroundGroup] = fields;
  const startTime = fields[19];
  if (startTime === undefined) return undefined;
  return {
    pid: Number(text.slice(0, text.indexOf(" "))),
    parent: Number(parent),
    group: Number(group),
    terminal: Number(terminal),
    foregroundGroup: Number(foregroundGroup),
    startTime,
    isZombie: state === "Z" || state === "X",
  };
}

export function isAlive({ pid, startTime }: Pick<ProcessInfo, "pid" | "startTime">): boolean {
  const info = processInfo(pid);
  return info !== undefined && info.startTime === startTime && !info.isZombie;
}

/** Whether Ctrl-C on the terminal reaches this process and, being in its group, its child. */
export function isForeground(): boolean {
  const info = processInfo("self");
  return info !== undefined && info.terminal !== 0 && info.foregroundGroup === info.group;
}

/**
 * The descendants of `root`, and every process that carries `mark` in its environment: those whose
 * parents have ended belong to process 1 by now.
 */
export function descendants(root: number, mark: string): ProcessInfo[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => processInfo(Number(name)) ?? [])
    .filter((info) => !info.isZombie && info.pid !== process.pid);
  const found = new Set([root]);
  for (let grown = true; grown;) {
    grown = false;
    for (const { pid, parent } of all) {
      if (found.has(pid) || !found.has(parent)) continue;
      found.add(pid);
      grown = true;
    }
  }
  return all.filter(({ pid }) => found.has(pid) || read(`/proc/${pid}/environ`).split("\0").includes(mark));
}

function read(file: string): string {
  try {
    return readFileSync(file, "latin1");
  } catch {
    return "";
  }
}

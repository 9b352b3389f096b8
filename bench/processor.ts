import { readFileSync, readdirSync } from "node:fs";

/** Linux counts a process's time in these. */
const ticksPerSecond = 100;

/** Seconds of processor time that the workers of the pool in `folder` have used. */
export function workerSeconds(folder: string): number {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => secondsOfWorker(pid, folder))
    .reduce((sum, seconds) => sum + seconds, 0);
}

function secondsOfWorker(pid: string, folder: string): number {
  try {
    if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("farpool-worker\0serve")) return 0;
    if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(`${folder}/`)) return 0;
    const status = readFileSync(`/proc/${pid}/stat`, "utf8");
    // After the name in brackets, which may hold anything: state is field 3, user and system time are 14 and 15.
    const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
  } catch {
    // It ended, or belongs to somebody else.
    return 0;
  }
}

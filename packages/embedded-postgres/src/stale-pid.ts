import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

/**
 * A postmaster.pid that a crash left behind. PostgreSQL itself refuses to start when some unrelated
 * process has the recorded number by now (after a reboot, often): only a postgres on this very data counts.
 * Returns the number of a postgres that does run on the data.
 */
export function clearStalePid(dataFolder: string): number | undefined {
  const file = join(dataFolder, "postmaster.pid");
  const pid = Number(readOrEmpty(file).split("\n")[0]);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const command = readOrEmpty(`/proc/${pid}/cmdline`).split("\0");
  if (command[0]?.endsWith("/postgres") === true && command.includes(dataFolder)) return pid;
  rmSync(file, { force: true });
  return undefined;
}

function readOrEmpty(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { ServiceScope } from "@farpool/layout";

export const SERVICE_UNIT = "farpool-client.service";
export const SOCKET_UNIT = "farpool-client.socket";

const ANSWER_TIMEOUT_MS = 2_000;

export function systemctlWords(scope: ServiceScope, words: readonly string[]): string[] {
  return scope === "user" ? ["--user", ...words] : [...words];
}

/**
 * Why systemd ends this service: only its list of jobs tells a restart from a stop. Undefined where systemd does not
 * answer, or did not end it.
 */
export async function endingJob(scope: ServiceScope): Promise<"restart" | "stop" | undefined> {
  if ((process.env["INVOCATION_ID"] ?? "") === "") return undefined;
  try {
    const words = systemctlWords(scope, ["list-jobs", "--no-legend", "--no-pager", "--plain"]);
    const { stdout } = await promisify(execFile)("systemctl", words, { timeout: ANSWER_TIMEOUT_MS });
    return jobOf(stdout);
  } catch {
    return undefined;
  }
}

/** Exported for its test: lines are `NUMBER UNIT TYPE STATE`. */
export function jobOf(listing: string): "restart" | "stop" | undefined {
  for (const line of listing.split("\n")) {
    const [, unit, type] = line.trim().split(/\s+/);
    if (unit !== SERVICE_UNIT) continue;
    // A restart is a start as soon as it has stopped the service.
    if (type === "restart" || type === "start") return "restart";
    if (type === "stop") return "stop";
  }
  return undefined;
}

/** With its socket left, the next program would start the service that somebody has just stopped. */
export async function stopSocket(scope: ServiceScope): Promise<void> {
  const words = systemctlWords(scope, ["stop", "--no-block", SOCKET_UNIT]);
  await promisify(execFile)("systemctl", words, { timeout: ANSWER_TIMEOUT_MS }).catch(() => undefined);
}

import { formatDuration, formatRequest, type Queue } from "@farpool/contract";
import { print, printJson, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { formatEstimate } from "../run/report.ts";

export async function queue(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listQueue", {}));
  if (isJson) printJson(answer);
  else print(answer.entries.length === 0 ? "nobody waits" : queuePage(answer, Date.now()));
  return 0;
}

/** The queue, then what those who wait have had: that decides between them. */
export function queuePage({ entries, users, halfLifeMs }: Queue, nowMs: number): string {
  const waiting = entries.map(({ session, shareKey }) => [
    String(session.queue?.position ?? "-"),
    session.id,
    shareKey,
    [formatRequest(session.count, session.size), ...session.filters].join(", "),
    String(session.priority),
    formatDuration(Math.max(0, nowMs - Date.parse(session.requestedAt))),
    formatEstimate(session.queue?.estimatedAt ?? null, nowMs) ?? "unknown",
    session.queue?.waitsFor ?? "its turn",
  ]);
  const shares = users.map((user) => [
    user.shareKey,
    String(user.waiting),
    user.heldGpus.toFixed(2).replace(/\.?0+$/, ""),
    (user.usedGpuSeconds / 3_600).toFixed(2),
  ]);
  return [
    table(["POSITION", "SESSION", "USER", "WANTS", "PRIORITY", "WAITS", "GRANTED IN", "WAITS FOR"], waiting),
    "",
    table(["USER", "WAITING", "HOLDS GPUS", "GPU-HOURS LATELY"], shares),
    `Of what was had, half is forgotten after ${formatDuration(halfLifeMs)}; who has had the least comes first.`,
  ].join("\n");
}

import { formatAddress } from "@farpool/client-api";
import { formatDuration } from "@farpool/contract";
import { print, printJson } from "../core/output.ts";
import { poolWay, withPool, type PoolWay } from "../core/pool-client.ts";
import { sessionTable } from "./sessions.ts";

export async function status(isJson: boolean): Promise<number> {
  const [pool, { sessions }] = await withPool((client) =>
    Promise.all([client.call("status", {}), client.call("listSessions", { query: { ended: 0 } })]),
  );
  const way = poolWay();
  const address = formatAddress(way.address);
  if (isJson) {
    printJson({ address, ...pool, list: sessions });
    return 0;
  }
  const { servers } = pool;
  const troubles = [
    ...(servers.silent > 0 ? [`${servers.silent} silent`] : []),
    ...(servers.lost > 0 ? [`${servers.lost} lost`] : []),
  ];
  const lines = [
    `pool      ${address}, manager ${pool.version} (pid ${pool.pid}), up ${formatDuration(Date.now() - Date.parse(pool.startedAt))}`,
    ...membershipLines(way),
    `servers   ${servers.online} online${troubles.length > 0 ? `, ${troubles.join(", ")}` : ""}`,
    `GPUs      ${pool.gpus.total}, ${pool.gpus.wholeFree} wholly free`,
    `sessions  ${pool.sessions.running} running, ${pool.sessions.queued} queued`,
  ];
  if (sessions.length > 0) lines.push("", sessionTable(sessions));
  for (const session of sessions) {
    if (session.queue !== null) lines.push(`${session.id} waits for ${session.queue.waitsFor}`);
  }
  print(lines.join("\n"));
  return 0;
}

/** Until when this machine is part of the pool without doing anything. */
function membershipLines({ membership }: PoolWay): string[] {
  if (membership === undefined) return [];
  const { name, role, expiresAt, renewAt } = membership.membership;
  return [
    `machine   ${name}, a ${role}; its certificate is good until ${expiresAt}, renewed from ${renewAt} on`,
  ];
}

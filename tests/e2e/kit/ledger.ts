import type { SessionDetail, UsageRecord } from "@farpool/contract";

// What sessions come to by their event log alone: an independent sum beside the manager's usage.

export interface Times {
  readonly grantedAt: number;
  readonly endedAt: number;
  readonly heldMs: number;
}

/** Of a session that had GPUs and is over. */
export function timesOf({ id, events }: Pick<SessionDetail, "id" | "events">): Times {
  const at = (wanted: string): number => {
    const found = events.filter(({ state }) => state === wanted);
    const [event] = found;
    if (event === undefined || found.length > 1)
      throw new Error(`session ${id} has ${found.length} events '${wanted}': ${JSON.stringify(events)}`);
    return Date.parse(event.at);
  };
  const [grantedAt, endedAt] = [at("granted"), at("ended")];
  return { grantedAt, endedAt, heldMs: endedAt - grantedAt };
}

/** Which part of each of its GPUs a session has. */
export function shareOf({ gpus }: Pick<SessionDetail, "gpus">): number {
  const [gpu] = gpus;
  if (gpu === undefined || gpu.memoryLimitBytes === null) return 1;
  return gpu.memoryLimitBytes / gpu.memoryTotalBytes;
}

/** GPUs that were granted to more than fits on them at a time, from the grant until the server had given them back. */
export function grantedTwice(sessions: readonly SessionDetail[]): readonly string[] {
  interface Stretch {
    readonly id: string;
    readonly fromMs: number;
    readonly toMs: number;
    readonly bytes: number;
    readonly totalBytes: number;
  }
  const byGpu = new Map<string, Stretch[]>();
  for (const session of sessions) {
    if (session.gpus.length === 0) continue;
    const { grantedAt } = timesOf(session);
    for (const { uuid, memoryLimitBytes, memoryTotalBytes, releasedAt } of session.gpus) {
      const bytes = memoryLimitBytes ?? memoryTotalBytes;
      const stretch = {
        id: session.id,
        fromMs: grantedAt,
        // On several servers each gives its own back.
        toMs: Date.parse(releasedAt ?? session.releasedAt ?? ""),
        bytes,
        totalBytes: memoryTotalBytes,
      };
      byGpu.set(uuid, [...(byGpu.get(uuid) ?? []), stretch]);
    }
  }
  const found: string[] = [];
  for (const [uuid, all] of byGpu)
    for (const begun of all) {
      // What is given back and what is granted in the same millisecond are one after the other.
      const there = all.filter(({ fromMs, toMs }) => fromMs <= begun.fromMs && toMs > begun.fromMs);
      const bytes = there.reduce((sum, each) => sum + each.bytes, 0);
      if (bytes > begun.totalBytes)
        found.push(`${uuid} at ${new Date(begun.fromMs).toISOString()}: ${JSON.stringify(there)}`);
    }
  return found;
}

/** What is wrong with a session's usage records, by its events alone. */
export function wrongRecords(session: SessionDetail, records: readonly UsageRecord[]): readonly string[] {
  if (session.gpus.length === 0)
    return records.length === 0 ? [] : [`${session.id} has records and had no GPU`];
  const { grantedAt, endedAt, heldMs } = timesOf(session);
  return session.gpus.flatMap(({ uuid, memoryLimitBytes, memoryTotalBytes }) => {
    const own = records
      .filter(({ gpuUuid }) => gpuUuid === uuid)
      .toSorted((a, b) => Date.parse(a.fromAt) - Date.parse(b.fromAt));
    const wrong: string[] = [];
    let at = grantedAt;
    for (const { fromAt, toAt } of own) {
      if (Date.parse(fromAt) !== at)
        wrong.push(
          `${session.id}, ${uuid}: a record begins at ${fromAt}, expected ${new Date(at).toISOString()}`,
        );
      at = Date.parse(toAt);
    }
    if (at !== endedAt)
      wrong.push(
        `${session.id}, ${uuid}: records end at ${new Date(at).toISOString()}, the session at ${new Date(endedAt).toISOString()}`,
      );
    const told = own.reduce((sum, record) => sum + record.heldMs, 0);
    const expected = heldMs * ((memoryLimitBytes ?? memoryTotalBytes) / memoryTotalBytes);
    // Each record is rounded to a millisecond.
    if (Math.abs(told - expected) > own.length + 1)
      wrong.push(`${session.id}, ${uuid}: ${told} ms held by its records, ${expected} ms by its events`);
    return wrong;
  });
}

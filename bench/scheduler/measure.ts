import { jain } from "@farpool/domain";
import type { Finished, Simulation } from "./simulate.ts";

export interface Waits {
  readonly sessions: number;
  readonly meanMs: number;
  readonly maxMs: number;
}

export interface Competition {
  /** How long all of them had somebody waiting. */
  readonly durationMs: number;
  readonly gpuSeconds: Readonly<Record<string, number>>;
  readonly jain: number;
  /** Part of all GPUs that was held meanwhile. */
  readonly utilisation: number;
}

export interface Figures {
  readonly waits: Readonly<Record<string, Waits>>;
  readonly waitsByUser: Readonly<Record<string, Waits>>;
  /** Per user, how long its 8-GPU sessions waited on average, to all of its sessions. */
  readonly eightWaits: Readonly<Record<string, number>>;
  readonly meanLengthMs: number;
  readonly competition: Competition;
}

/** `equals` are the users that are compared, `gpus` how many the pool has. */
export function measure(simulation: Simulation, equals: readonly string[], gpus: number): Figures {
  const { finished } = simulation;
  const waitsByUser = group(finished, ({ session }) => session.user);
  const large = group(
    finished.filter(({ session }) => session.count === 8),
    ({ session }) => session.user,
  );
  return {
    waits: {
      all: waitsOf(finished),
      ...group(finished, ({ session }) => `${session.count} GPU${session.count === 1 ? "" : "s"}`),
    },
    waitsByUser,
    eightWaits: Object.fromEntries(
      Object.entries(large).map(([user, { meanMs }]) => [user, meanMs / (waitsByUser[user]?.meanMs ?? 0)]),
    ),
    meanLengthMs: mean(finished.map(({ session }) => session.lengthMs)),
    competition: competitionOf(simulation, equals, gpus),
  };
}

/**
 * GPU-seconds that the users held while each of them had a session waiting: only then does everybody get less than
 * they asked for. Between two passes that is as it was after the first.
 */
function competitionOf(
  { finished, passes }: Simulation,
  equals: readonly string[],
  gpus: number,
): Competition {
  const times = passes.map(({ atMs }) => atMs);
  const contested = [0];
  for (const [place, { atMs, competing }] of passes.entries()) {
    const isContest = equals.every((user) => competing.includes(user));
    const lastsMs = (times[place + 1] ?? atMs) - atMs;
    contested.push((contested[place] ?? 0) + (isContest ? lastsMs : 0));
  }
  const contestedUntil = (ms: number): number => {
    const place = lastAtMost(times, ms);
    const [before = 0, after = 0] = [contested[place], contested[place + 1]];
    return before + Math.min(after - before, Math.max(0, ms - (times[place] ?? 0)));
  };
  const gpuSeconds = Object.fromEntries(equals.map((user) => [user, 0]));
  let held = 0;
  for (const { session, grantedAtMs, endedAtMs } of finished) {
    const amount = (session.count * (contestedUntil(endedAtMs) - contestedUntil(grantedAtMs))) / 1_000;
    held += amount;
    if (session.user in gpuSeconds) gpuSeconds[session.user] = (gpuSeconds[session.user] ?? 0) + amount;
  }
  const durationMs = contested.at(-1) ?? 0;
  return {
    ...{ durationMs, gpuSeconds },
    jain: jain(Object.values(gpuSeconds)),
    utilisation: held / ((gpus * durationMs) / 1_000),
  };
}

function lastAtMost(sorted: readonly number[], value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return Math.max(0, low - 1);
}

function group(finished: readonly Finished[], key: (each: Finished) => string): Record<string, Waits> {
  const groups = new Map<string, Finished[]>();
  for (const each of finished) {
    const list = groups.get(key(each)) ?? [];
    groups.set(key(each), list);
    list.push(each);
  }
  const sorted = [...groups].sort(([a], [b]) => a.localeCompare(b));
  return Object.fromEntries(sorted.map(([name, list]) => [name, waitsOf(list)]));
}

function waitsOf(finished: readonly Finished[]): Waits {
  const waits = finished.map(({ session, grantedAtMs }) => grantedAtMs - session.requestedAtMs);
  return {
    sessions: waits.length,
    meanMs: mean(waits),
    maxMs: waits.reduce((most, wait) => Math.max(most, wait), 0),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}

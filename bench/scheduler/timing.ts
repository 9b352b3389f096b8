import {
  DEFAULT_SCHEDULING,
  explain,
  PastLengths,
  place,
  PoolIndex,
  schedule,
  type RunningSession,
  type WaitingSession,
} from "@farpool/domain";
import { parseFilter, sessionIdSchema } from "@farpool/contract";
import { Random } from "./random.ts";
import { createServers, SIZES } from "./workload.ts";

export interface Timing {
  readonly name: string;
  readonly rounds: number;
  /** Of the wall clock, which other work on the machine makes longer. */
  readonly medianMs: number;
  readonly fastestMs: number;
  /** Of the processor: what it costs. */
  readonly processorMs: number;
}

const ROUNDS = 51;
const POOL = { servers: 1_250, gpusPerServer: 8 };
const WAITING = 100;

/** How long a placement and a pass take in a pool of 10,000 GPUs. */
export function timeScheduler(seed: number): readonly Timing[] {
  const random = new Random(seed);
  const servers = createServers(POOL);
  const empty = new PoolIndex(servers);
  const fragmented = new PoolIndex(servers);
  const running = fill(fragmented, random, 0.95);
  const full = new PoolIndex(servers);
  const crowd = fill(full, random, 1);
  const one = wish(random, { count: 1 });
  const eight = wish(random, { count: 8 });
  const filters = [parseFilter("gpu.memory>=40GiB"), parseFilter("gpu.name=*simulated*")];
  let filtersMade = 0;
  const slice = wish(random, { count: 1, size: { kind: "share", share: 0.25 } });
  return [
    time("place 1 GPU, empty pool", () => place(one, empty)),
    time("place 8 GPUs, empty pool", () => place(eight, empty)),
    time("place a quarter of a GPU, empty pool", () => place(slice, empty)),
    time("place 1 GPU, 95 % taken", () => place(one, fragmented)),
    time("place 8 GPUs, 95 % taken: no server has them", () => place(eight, fragmented)),
    time("place a quarter of a GPU, 95 % taken", () => place(slice, fragmented)),
    time("place 1 GPU with two filters, seen before, 95 % taken", () =>
      place({ ...one, filters }, fragmented),
    ),
    time("place 1 GPU with a filter for the first time, 95 % taken", () => {
      filtersMade += 1;
      return place({ ...one, filters: [parseFilter(`gpu.memory>=${filtersMade}MiB`)] }, fragmented);
    }),
    time("build the index of 10,000 GPUs and those who run on them", () => new PoolIndex(servers, running)),
    timePass(`pass over ${WAITING} waiting, 95 % taken`, { running, random }),
    timePass(`pass over ${WAITING} waiting, all taken`, { running: crowd, random }),
    timePass(`pass over ${WAITING} waiting that may be spread, 95 % taken`, {
      running,
      random,
      spreadServers: true,
    }),
    timePass(`pass over ${WAITING} waiting that may be spread, all taken`, {
      running: crowd,
      random,
      spreadServers: true,
    }),
  ];
}

interface PassWish {
  readonly running: readonly RunningSession[];
  readonly random: Random;
  readonly spreadServers?: boolean;
}

/** A pass as the manager does it but for the database: order, grants, reservations, reasons and estimates. */
function timePass(name: string, { running, random, spreadServers = false }: PassWish): Timing {
  const nowMs = 3_600_000;
  const lengths = new PastLengths(Array.from({ length: 1_000 }, () => random.logNormal(1_800_000, 1)));
  const taken = takenServers(running);
  const waiting = Array.from({ length: WAITING }, () =>
    wish(random, { count: random.pick(SIZES), spreadServers }),
  );
  return time(
    name,
    (index) => {
      const result = schedule({
        ...{ nowMs, waiting, index, lengths, settings: DEFAULT_SCHEDULING },
        accounts: (user) => ({ usedGpuSeconds: user.length, heldGpus: 3 }),
      });
      return explain(result);
    },
    () => new PoolIndex(taken, running),
  );
}

function takenServers(running: readonly RunningSession[]) {
  const index = new PoolIndex(createServers(POOL));
  for (const session of running) index.occupy(session);
  let next = 0;
  return index.servers.map((server) => ({
    ...server,
    gpus: server.gpus.map((gpu) => {
      const slices = (index.occupants[next] ?? []).map(({ limitBytes }) => limitBytes);
      next += 1;
      return { ...gpu, slices };
    }),
  }));
}

/** Sessions of all sizes until so much of the pool is taken or nothing fits. */
function fill(index: PoolIndex, random: Random, share: number): readonly RunningSession[] {
  const running: RunningSession[] = [];
  const most = index.gpus.length * share;
  for (let held = 0; held < most;) {
    const session = wish(random, { count: most - held < 8 ? 1 : random.pick(SIZES) });
    const placement = place(session, index);
    if (placement === undefined) break;
    const maxDurationMs = random.uniform() < 0.3 ? 7_200_000 : null;
    const granted = { id: session.id, grantedAtMs: random.uniform() * 3_600_000, maxDurationMs, placement };
    index.occupy(granted);
    running.push(granted);
    held += session.count;
  }
  return running;
}

let made = 0;

function wish(random: Random, more: Partial<WaitingSession>): WaitingSession {
  made += 1;
  return {
    id: sessionIdSchema.parse(`s-${made.toString(36).padStart(6, "0")}`),
    user: `user-${Math.floor(random.uniform() * 20)}`,
    count: 1,
    size: { kind: "whole" },
    priority: 50,
    queueNumber: made,
    requestedAtMs: 0,
    maxDurationMs: random.uniform() < 0.3 ? 1_800_000 : null,
    ...more,
  };
}

function time<T>(
  name: string,
  work: (prepared: T) => unknown,
  prepare: () => T = () => undefined as T,
): Timing {
  const samples = Array.from({ length: ROUNDS }, () => {
    const prepared = prepare();
    const before = process.cpuUsage();
    const startedAt = performance.now();
    work(prepared);
    const wallMs = performance.now() - startedAt;
    const { user, system } = process.cpuUsage(before);
    return { wallMs, processorMs: (user + system) / 1_000 };
  });
  const walls = samples.map(({ wallMs }) => wallMs).sort((a, b) => a - b);
  const costs = samples.map(({ processorMs }) => processorMs).sort((a, b) => a - b);
  const middle = Math.floor(ROUNDS / 2);
  return {
    name,
    rounds: ROUNDS,
    medianMs: walls[middle] ?? 0,
    fastestMs: walls[0] ?? 0,
    processorMs: costs[middle] ?? 0,
  };
}

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";

type Counts = Readonly<Record<string, number>>;

/** What `FARPOOL_STATISTICS` writes: how often a program called what, and for which calls it waited for the worker. */
interface Statistics {
  readonly calls: Counts;
  readonly waits: Counts;
}

/** Waits that CUDA performs, too: what the client waits for, and the calls of a program that may be behind it. */
const performedByCuda: Readonly<Record<string, RegExp>> = {
  cuStreamSynchronize: /^cuStreamSynchronize|^cuMemcpy|^cuMemFree/,
  cuCtxSynchronize: /^cuCtxSynchronize$|^cuGraphExecDestroy/,
  cuCtxSynchronize_v2: /^cuCtxSynchronize_v2$/,
  cuEventSynchronize: /^cuEventSynchronize/,
  cuMemcpyDtoH_v2: /^cuMemcpyDtoH_v2|^cuMemcpy(_ptds)?$/,
  cuMemcpyDtoHAsync_v2: /^cuMemcpyDtoHAsync|^cuMemcpyAsync/,
  cuMemcpy3DAsync_v2: /^cuMemcpy[23]D/,
  cuDevicePrimaryCtxRetain: /^cuDevicePrimaryCtxRetain/,
  cuDevicePrimaryCtxRelease_v2: /^cuDevicePrimaryCtxRelease/,
  cuGraphInstantiateWithFlags: /^cuGraphInstantiate/,
  farpoolFence: /^cuMemFree|^cuMemAlloc|Unload/,
};

/** Modules seen for the first time. */
const modules = /^(cuLibraryLoadData|cuModuleLoadDataEx)$/;

/** Memory beyond what was secured before. */
const credit = /^(farpoolSecure|cuMemAllocFromPoolAsync)$/;

/** Waits that a program may have beside those of CUDA, modules and credit. */
const mostOthers = 8;

/**
 * Waits that remain, all of them values that only the worker has; `hello` is the connection itself. `farpoolSecure` is
 * memory beyond what was secured before: one for programs that work with less than 32 MiB, whatever they allocate.
 */
const remaining: Readonly<Record<string, Counts>> = {
  "async-copy": { farpoolSecure: 1 },
  atomics: { farpoolSecure: 1 },
  attributes: {
    cuLibraryGetGlobal: 1,
    cuOccupancyAvailableDynamicSMemPerBlock: 2,
    farpoolOccupancy: 4,
    farpoolSecure: 1,
  },
  "device-printf": {},
  "device-query": { cuMemGetInfo_v2: 1 },
  "dynamic-shared": { farpoolSecure: 1 },
  "event-polling": { farpoolSecure: 1 },
  // Twice a hundred blocks of 1/100 of the memory, half of them again as one, and a refusal.
  fragmentation: { cuMemGetInfo_v2: 2, farpoolSecure: 50 },
  "graph-capture": { farpoolSecure: 1 },
  "graph-host-memory": { farpoolSecure: 1 },
  "graph-nodes": { farpoolSecure: 1 },
  "half-precision": { farpoolSecure: 1 },
  "host-function": { farpoolSecure: 1 },
  "host-threads": { farpoolSecure: 1 },
  // 700 allocations: the first 200 hold 800 MiB, none of the others waits.
  "large-allocations": { farpoolSecure: 6 },
  "launch-queue": { farpoolSecure: 1 },
  "matrix-multiply": { farpoolSecure: 1 },
  "memory-reuse": { farpoolSecure: 1 },
  // Three times 24 blocks of 1/25 of the memory and a refusal, then a dozen again.
  "out-of-memory": { cuMemGetInfo_v2: 2, farpoolSecure: 111 },
  "per-thread-stream": { farpoolSecure: 1 },
  "query-certainty": { farpoolSecure: 1 },
  rectangles: { farpoolSecure: 1 },
  reduction: { farpoolSecure: 1 },
  "several-gpus": { cuLibraryGetGlobal: 1, cuMemGetInfo_v2: 1, farpoolSecure: 4 },
  "small-allocations": { cuMemGetInfo_v2: 3, farpoolSecure: 1 },
  // A pool of the program's own is the driver's: each allocation from it waits.
  "stream-allocation": { cuMemAllocFromPoolAsync: 1, cuMemPoolGetAttribute: 4, farpoolSecure: 1 },
  "stream-overlap": { cuEventElapsedTime_v2: 2, farpoolSecure: 1 },
  symbols: { cuLibraryGetGlobal: 4, farpoolSecure: 1 },
  "tensor-cores": { farpoolSecure: 1 },
  "two-gpu-relay": { farpoolSecure: 1 },
  "vector-add": { farpoolSecure: 1 },
};

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

describe("what a program waits for", () => {
  it.each(Object.keys(remaining))("%s", async (name) => {
    const { calls, waits } = await statisticsOf(name);

    const moreThanCuda = Object.entries(performedByCuda)
      .map(([wait, origin]) => ({ wait, count: waits[wait] ?? 0, atMost: countOf(calls, origin) }))
      .filter(({ count, atMost }) => count > atMost);
    expect(moreThanCuda).toEqual([]);
    // A query must never wait: programs ask in loops.
    const rest = Object.entries(waits).filter(
      ([wait]) => performedByCuda[wait] === undefined && !modules.test(wait),
    );
    const { farpoolSecure: credits = 0, ...counted } = Object.fromEntries(rest);
    const { farpoolSecure: usual = 0, ...expected } = remaining[name] ?? {};
    expect(counted).toEqual({ hello: 1, ...expected });
    // Credit comes ahead of its use; how often it comes too late depends on who is how fast.
    expect(credits).toBeLessThanOrEqual(1.5 * usual);
    const others = rest.filter(([wait]) => !credit.test(wait)).map(([, count]) => count);
    expect(others.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(mostOthers);
  });
});

function countOf(calls: Counts, origin: RegExp): number {
  return Object.entries(calls)
    .filter(([call]) => origin.test(call))
    .reduce((sum, [, count]) => sum + count, 0);
}

async function statisticsOf(name: string): Promise<Statistics> {
  const folder = mkdtempSync(join(tmpdir(), "farpool-waits-"));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  const run = await pool.farpool(["run", "-n", "1", "--", example(name)], {
    environment: { FARPOOL_STATISTICS: folder },
  });
  expect(run).toMatchObject({ status: 0, stderr: "" });
  const [file] = readdirSync(folder);
  return JSON.parse(readFileSync(join(folder, file ?? "missing"), "utf8")) as Statistics;
}

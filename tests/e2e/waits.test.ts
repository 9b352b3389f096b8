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

/** Modules seen for the first time, and memory beyond what was secured. */
const modulesAndCredit = /^(cuLibraryLoadData|cuModuleLoadDataEx|cuMemAlloc_v2|cuMemAllocFromPoolAsync)$/;

/** Waits that remain, all of them values that only the worker has; `hello` is the connection itself. */
const remaining: Readonly<Record<string, Counts>> = {
  "async-copy": {},
  atomics: {},
  attributes: { cuLibraryGetGlobal: 1, cuOccupancyAvailableDynamicSMemPerBlock: 2, farpoolOccupancy: 4 },
  "device-printf": {},
  "device-query": { cuMemGetInfo_v2: 1 },
  "dynamic-shared": {},
  "event-polling": {},
  "graph-capture": {},
  "graph-host-memory": {},
  "graph-nodes": {},
  "half-precision": {},
  "host-function": {},
  "host-threads": {},
  "launch-queue": {},
  "matrix-multiply": {},
  "memory-reuse": {},
  "out-of-memory": { cuMemGetInfo_v2: 2 },
  "per-thread-stream": {},
  "query-certainty": {},
  rectangles: {},
  reduction: {},
  "small-allocations": { cuMemGetInfo_v2: 3 },
  "stream-allocation": { cuMemPoolGetAttribute: 8 },
  "stream-overlap": { cuEventElapsedTime_v2: 2 },
  symbols: { cuLibraryGetGlobal: 4 },
  "tensor-cores": {},
  "two-gpu-relay": {},
  "vector-add": {},
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
      ([wait]) => performedByCuda[wait] === undefined && !modulesAndCredit.test(wait),
    );
    expect(Object.fromEntries(rest)).toEqual({ hello: 1, ...remaining[name] });
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

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

const gpus = 2;
let pool: Pool;
beforeAll(async () => {
  pool = await startPool(gpus);
});
afterAll(async () => {
  await pool.stop();
});

/** Errors of one scenario of error-parity: what was done and by which call. */
type Known = readonly string[];

const unlikeTheHeader = "the simulated GPU is laxer than cuda.h says";
const notRemoted = "the call is not remoted yet";
const destroyed = "what is asked first of a destroyed context";
const destroysAfterFault =
  "the simulated GPU lets go of objects of a faulty context, the client answers its error; a real GPU must decide";

/** What may differ today, by scenario and reason. A line that has become equal is taken out of here. */
const scenarios: Readonly<Record<string, Readonly<Record<string, Known>>>> = {
  "before-init": {},
  devices: { [unlikeTheHeader]: ["never retained: cuDevicePrimaryCtxRelease_v2"] },
  "no-context": {},
  memory: {},
  "host-memory": {},
  pointers: { [unlikeTheHeader]: ["none: cuPointerGetAttributes"] },
  "streams-and-events": {},
  handles: {},
  launches: {
    [unlikeTheHeader]: ["parameters twice: cuLaunchKernel"],
  },
  modules: {
    [unlikeTheHeader]: [
      "options without values: cuModuleLoadDataEx",
      "no places: cuModuleGetGlobal_v2",
      "freeing a variable: cuMemFree_v2",
    ],
    [notRemoted]: ["no such variable: cuLibraryGetManaged"],
  },
  "out-of-memory": {},
  pools: {},
  contexts: {
    [destroyed]: [
      "stream of a destroyed context: cuStreamSynchronize",
      "event of a destroyed context: cuEventQuery",
      "current after destroying it: cuCtxGetDevice",
      "event of a destroyed context: cuEventDestroy_v2",
      "destroyed below the top: cuCtxGetDevice",
    ],
  },
  peers: { [unlikeTheHeader]: ["null context: cuMemcpyPeer"] },
  runtime: {},
  "illegal-store": {},
  "illegal-load": {},
  "illegal-atomic": {},
  misaligned: {},
  assert: {},
  trap: {},
  "shared-out-of-range": {},
  "fault-in-own-context": {
    [destroysAfterFault]: ["after: cuStreamDestroy_v2", "after: cuEventDestroy_v2", "after: cuModuleUnload"],
  },
};

/** Scenarios that need what is not remoted yet: graphs. */
const later = ["capture"];

/** "what: call" of a line of error-parity's table. */
function nameOf(line: string): string {
  return `${line.slice(0, 46).trim()}: ${line.slice(47, 83).trim()}`;
}

describe("every error of a program", () => {
  it("is in a scenario that is compared", async () => {
    const listed = await runDirectly([example("error-parity"), "--list"]);

    expect(listed.stdout.trim().split("\n").toSorted()).toEqual(
      [...Object.keys(scenarios), ...later].toSorted(),
    );
  });

  it.each(Object.entries(scenarios))("has the same code through the pool: %s", async (scenario, known) => {
    const words = [example("error-parity"), scenario];
    const direct = await runDirectly(words, gpus);
    const pooled = await pool.farpool(["run", "-n", String(gpus), "--", ...words]);

    expect(direct.status).toBe(0);
    expect(pooled.status).toBe(0);
    const [expected, found] = [direct.stdout.split("\n"), pooled.stdout.split("\n")];
    expect(found).toHaveLength(expected.length);
    const mayDiffer = Object.values(known).flat();
    const compared = expected.map((line, index) => [line, found[index]] as const);
    const wrong = compared.filter(([line, other]) => line !== other && !mayDiffer.includes(nameOf(line)));
    expect(wrong).toEqual([]);
  });
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

// Nobody waits for what has nothing to do with him: streams that a host function holds, other contexts, later records.

const gpus = 2;

describe.each([
  ["that maps memory", "1"],
  ["that maps no memory", "0"],
])("on a driver %s", (_what, mapping) => {
  const simulation = { FARPOOL_SIMGPU_VMM: mapping };
  let pool: Pool;
  beforeAll(async () => {
    pool = await startPool(gpus, simulation);
  });
  afterAll(async () => {
    await pool.stop();
  });

  it.each([
    ["refuses memory while a stream is held", ["held-stream", "refused"]],
    ["refuses memory while frees wait for a held stream", ["held-stream", "refused-behind"]],
    ["allocates in the order of another stream", ["held-stream", "async"]],
    ["allocates in the order of the held stream", ["held-stream", "own"]],
    ["says how much memory is free after frees", ["held-stream", "info"]],
    ["says how much memory is free after frees in order", ["held-stream", "info-behind"]],
    ["frees beside a host function of another context", ["held-stream", "other-function"]],
    ["frees beside a download of another context", ["held-stream", "other-download"]],
    ["enables access to a device again that was reset", ["peer-reset"]],
    ["waits for what an event stood for when it is recorded again", ["event-again"]],
    ["tells late errors to the next call of their own context", ["late-errors"]],
  ])("%s", async (_title, [name = "", ...mode]) => {
    const words = [example(name), ...mode];
    const direct = await runDirectly(words, gpus, simulation);
    const pooled = await pool.farpool(["run", "-n", String(gpus), "--", ...words]);

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout });
    await pool.expectNothingHeld();
  });
});

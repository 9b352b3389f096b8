import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

// Programs with several contexts: what belongs to one, and what concerns all.

const gpus = 2;
let pool: Pool;
beforeAll(async () => {
  pool = await startPool(gpus);
});
afterAll(async () => {
  await pool.stop();
});

describe("a program with several contexts", () => {
  it.each([
    ["uses streams and events of one that is not current", "other-context", "0ms"],
    ["gives pinned memory back when no GPU uses it any more, and with its context", "pinned-lifetime", "0ms"],
    ["goes on beside one that an error ended, and after its reset", "context-errors", "0ms"],
    ["goes on beside one that an error ended, from 5 ms away", "context-errors", "5ms"],
  ])("%s", async (_what, name, roundTrip) => {
    const words = [example(name)];
    const environment = { FARPOOL_EMULATED_RTT: roundTrip };
    const direct = await runDirectly(words, gpus);
    const pooled = await pool.farpool(["run", "-n", String(gpus), "--", ...words], { environment });

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
  });
});

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

async function compare(name: string, environment: Readonly<Record<string, string>> = {}): Promise<void> {
  const words = [example(name)];
  const direct = await runDirectly(words, gpus);
  const pooled = await pool.farpool(["run", "-n", String(gpus), "--", ...words], { environment });

  expect(direct).toMatchObject({ status: 0, stderr: "" });
  expect(direct.stdout).toMatch(/PASSED\n$/);
  expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
}

describe("streams and events of a context that is not the current one", () => {
  it("are copied on, asked and waited for in their own", async () => {
    await compare("other-context");
  });
});

describe("pinned memory", () => {
  it("goes back when no GPU uses it any more, and with its context", async () => {
    await compare("pinned-lifetime");
  });
});

describe("an error that ends a context", () => {
  it.each(["0ms", "5ms"])("ends no other one, and no later one, from %s away", async (roundTrip) => {
    await compare("context-errors", { FARPOOL_EMULATED_RTT: roundTrip });
  });
});

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

// Device memory at addresses that client and worker agree on, and without such addresses.

let pool: Pool;
/** Its GPUs map no memory: the driver chooses the addresses. */
let withoutWindow: Pool;
/** Its GPUs do not wait for their work before they unmap or free memory. */
let careless: Pool;
beforeAll(async () => {
  [pool, withoutWindow, careless] = await Promise.all([
    startPool(2),
    startPool(2, { FARPOOL_SIMGPU_VMM: "0" }),
    startPool(1, { FARPOOL_SIMGPU_UNKIND: "launch-limit,pageable-waits,host-functions,pattern" }),
  ]);
});
afterAll(async () => {
  await Promise.all([pool.stop(), withoutWindow.stop(), careless.stop()]);
});

const pools = {
  "with a window": () => pool,
  "without one": () => withoutWindow,
} as const;

/** A file of its own for what the shim says. */
function logFile(): string {
  const folder = mkdtempSync(join(tmpdir(), "farpool-window-"));
  onTestFinished(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  return join(folder, "log");
}

describe.each(Object.entries(pools))("%s", (_, of) => {
  it("kernels of one GPU use memory of another when they may", async () => {
    const words = [example("peer-access")];
    const direct = await runDirectly(words, 2);
    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);

    const pooled = await of().farpool(["run", "-n", "2", "--", ...words]);
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
    await of().expectNothingHeld();
  });

  it.each([{}, { FARPOOL_STRICT: "1" }])(
    "memory goes from process to process of a session: %o",
    async (environment) => {
      const words = [example("shared-memory-limit")];
      const direct = await runDirectly(words);
      expect(direct).toMatchObject({ status: 0, stderr: "" });

      const pooled = await of().farpool(["run", "-n", "1", "-m", "1024", "--", ...words], { environment });
      expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
      await of().expectNothingHeld();
    },
  );

  it("contexts give everything back", async () => {
    const words = [example("context-memory")];
    const direct = await runDirectly(words);
    expect(direct).toMatchObject({ status: 0, stderr: "" });

    const pooled = await of().farpool(["run", "-n", "1", "--", ...words]);
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
    await of().expectNothingHeld();
  });

  it.each(["large-allocations", "memory-reuse", "stream-allocation"])("%s passes", async (name) => {
    const run = await of().farpool(["run", "-n", "1", "--", example(name)]);
    expect(run).toMatchObject({ status: 0, stderr: "" });
    expect(run.stdout).toMatch(/PASSED\n$/);
  });
});

describe("a driver that does not wait when it unmaps", () => {
  it.each(["large-allocations", "fragmentation", "context-memory"])(
    "is told to late enough by %s",
    async (name) => {
      const run = await careless.farpool(["run", "-n", "1", "--", example(name)]);
      expect(run).toMatchObject({ status: 0, stderr: "" });
      expect(run.stdout).toMatch(/PASSED\n$/);
    },
  );
});

describe("a limit on addresses", () => {
  it.each([
    ["leaves room for a small window", 200],
    ["is no reason to fail", 40],
  ])("%s", async (_, gibibytes) => {
    const script = `ulimit -v ${gibibytes * 2 ** 20} && exec "$0"`;
    const words = ["run", "-n", "1", "--", "sh", "-c", script, example("large-allocations")];
    const run = await pool.farpool(words);

    expect(run).toMatchObject({ status: 0, stderr: "" });
    expect(run.stdout).toMatch(/PASSED\n$/);
  });
});

describe("what is said", () => {
  const sentence = "the GPU server's driver chooses the addresses";

  it("is nothing where there is a window", async () => {
    const log = logFile();
    const environment = { FARPOOL_LOG: log };
    expect(
      await pool.farpool(["run", "-n", "1", "--", example("vector-add")], { environment }),
    ).toMatchObject({
      status: 0,
    });
    expect(() => readFileSync(log, "utf8")).toThrow("ENOENT");
  });

  it("is one sentence where there is none", async () => {
    const log = logFile();
    const environment = { FARPOOL_LOG: log };
    const words = ["run", "-n", "1", "--", example("vector-add")];
    expect(await withoutWindow.farpool(words, { environment })).toMatchObject({ status: 0 });
    expect(readFileSync(log, "utf8").split(sentence)).toHaveLength(2);
  });
});

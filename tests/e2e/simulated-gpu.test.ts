import { describe, expect, it } from "vitest";
import { example, runDirectly } from "./kit/pool.ts";

const log = { FARPOOL_SIMGPU_LOG: "1" };

describe.each(["compiler", "interpreter"])("the simulated GPU by its %s", (engine) => {
  it.each([
    ["multi-warp-tiles", ["tiles of 64", "tiles of 128", "tiles of 256", "tiles of 512"]],
    ["waiting-warps", ["locks between", "named barriers", "cuda::barrier", "cuda::pipeline"]],
  ])("runs %s", async (program, parts) => {
    const result = await runDirectly([example(program)], 1, { FARPOOL_SIMGPU_ENGINE: engine });

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(parts.filter((part) => !result.stdout.includes(part))).toEqual([]);
    expect(result.stdout).toMatch(/PASSED\n$/);
  });
});

describe("FARPOOL_SIMGPU_RACES", () => {
  it.each(["multi-warp-tiles", "waiting-warps"])("finds none in %s", async (program) => {
    const result = await runDirectly([example(program)], 1, { FARPOOL_SIMGPU_RACES: "1" });

    expect(result).toMatchObject({ status: 0, stderr: "" });
  });
});

describe("what the simulated GPU does not execute", () => {
  it("is refused by name, in the kernels and calls that use it", async () => {
    const result = await runDirectly([example("refused-features")], 1, log);

    expect(result.status).toBe(0);
    expect(result.stdout).toMatch(/PASSED\n$/);
    const told = [
      "tex.1d.v4.f32.s32",
      "sust.b.1d.b32.trap",
      "cuTexObjectCreate",
      "clusters of 2 x 1 x 1 blocks",
    ];
    expect(told.filter((name) => !result.stderr.includes(name))).toEqual([]);
  });
});

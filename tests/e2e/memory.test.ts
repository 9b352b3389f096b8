import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";

const mib = 2 ** 20;

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

interface Allocation {
  readonly total: number;
  readonly counted: number;
  readonly allocated: number;
  readonly endedBy: string;
  readonly freeBefore: number;
  readonly freeAfter: number;
}

function parse(output: string): Allocation {
  const value = (label: string): string => new RegExp(`^${label} (.+)$`, "m").exec(output)?.[1] ?? "";
  return {
    total: Number(value("totalMem")),
    counted: Number(value("memGetInfo total")),
    allocated: Number(value("allocated")),
    endedBy: value("ended by"),
    freeBefore: Number(value("free before")),
    freeAfter: Number(value("free after")),
  };
}

describe("-m", () => {
  it("is what the program sees as its GPU's memory and the most it can allocate", async () => {
    const result = await pool.farpool([
      "run",
      "-n",
      "1",
      "-m",
      "1024",
      "--",
      example("allocate"),
      "64",
      "100",
    ]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const seen = parse(result.stdout);
    expect(seen.total).toBe(1024 * mib);
    expect(seen.counted).toBe(1024 * mib);
    expect(seen.endedBy).toBe("cudaErrorMemoryAllocation");
    expect(seen.allocated).toBeLessThanOrEqual(1024 * mib);
    // What the context itself takes is inside the limit: the rest must be there.
    expect(seen.allocated).toBeGreaterThanOrEqual(512 * mib);
    expect(seen.freeAfter).toBeLessThan(64 * mib);
    await pool.expectNothingHeld();
  });
});

describe("-m with memory in the order of streams", () => {
  it("bounds what pools hold, and lets freed memory be allocated again without a wait in between", async () => {
    const result = await pool.farpool([
      ...["run", "-n", "1", "-m", "1024", "--"],
      ...[example("allocate"), "64", "100", "0", "async"],
    ]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const seen = parse(result.stdout);
    expect(seen.endedBy).toBe("cudaErrorMemoryAllocation");
    expect(seen.allocated).toBeLessThanOrEqual(1024 * mib);
    expect(seen.allocated).toBeGreaterThanOrEqual(512 * mib);
    expect(seen.freeAfter).toBeLessThan(64 * mib);
    expect(result.stdout).toContain("allocated again\n");
    await pool.expectNothingHeld();
  });
});

describe("small allocations", () => {
  it.each(["unix", "tcp"])(
    "fill the session's memory, and give it back to large ones, over %s",
    async (transport) => {
      const words = ["run", "-n", "1", "-m", "256", "--", example("fill-small"), "192"];
      const result = await pool.farpool(words, { environment: { FARPOOL_TRANSPORT: transport } });

      expect(result).toMatchObject({ status: 0, stderr: "" });
      const [free = 0, ...filled] = [...result.stdout.matchAll(/^\w+ (\d+)$/gm)].map(([, bytes]) =>
        Number(bytes),
      );
      expect(filled).toHaveLength(3);
      // What is too little for one more slab may be left.
      expect(Math.min(...filled)).toBeGreaterThan(free - 16 * mib);
      await pool.expectNothingHeld();
    },
  );

  it("leave a full session usable, in large slices too", async () => {
    const result = await pool.farpool(["run", "-n", "1", "-m", "512", "--", example("out-of-memory")]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(/PASSED\n$/);
    await pool.expectNothingHeld();
  });
});

describe("-p", () => {
  it("is a share of the GPU's memory", async () => {
    const whole = (await pool.gpu()).memoryTotalBytes;
    const result = await pool.farpool(["run", "-n", "1", "-p", "0.5", "--", example("allocate"), "64", "1"]);

    expect(result).toMatchObject({ status: 0 });
    const seen = parse(result.stdout);
    expect(Math.abs(seen.total - whole / 2)).toBeLessThanOrEqual(2 * mib);
    expect(seen.counted).toBe(seen.total);
  });
});

describe("several processes of one session", () => {
  it("share one limit", async () => {
    const script = `
      : > "$1/first"
      "$0" 64 4 3 > "$1/first" &
      while ! grep -q holding "$1/first"; do sleep 0.05; done
      "$0" 64 100
      wait
      "$0" 64 4
    `;
    const result = await pool.farpool([
      ...["run", "-n", "1", "-m", "1024", "--"],
      ...["sh", "-c", script, example("allocate"), pool.folder],
    ]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const [second = "", third = ""] = result.stdout.split("holding\n");
    const [beside, after] = [parse(second), parse(third)];
    expect(beside.total).toBe(1024 * mib);
    expect(beside.endedBy).toBe("cudaErrorMemoryAllocation");
    expect(beside.freeBefore).toBeLessThanOrEqual((1024 - 256) * mib);
    expect(beside.allocated).toBeLessThanOrEqual((1024 - 256) * mib);
    expect(beside.allocated).toBeGreaterThanOrEqual(256 * mib);
    expect(after).toMatchObject({ endedBy: "cudaSuccess", allocated: 256 * mib });
    await pool.expectNothingHeld();
  });

  it("leave room for others when one is killed", async () => {
    const script = `
      : > "$1/killed"
      "$0" 64 8 1000 > "$1/killed" &
      while ! grep -q holding "$1/killed"; do sleep 0.05; done
      kill -9 $!
      wait
      for attempt in 1 2 3 4 5 6 7 8 9 10; do
        "$0" 64 8 | grep -q "ended by cudaSuccess" && echo enough && exit 0
        sleep 0.2
      done
      exit 1
    `;
    const result = await pool.farpool([
      ...["run", "-n", "1", "-m", "1024", "--"],
      ...["sh", "-c", script, example("allocate"), pool.folder],
    ]);

    expect(result).toMatchObject({ status: 0, stdout: "enough\n" });
  });
});

describe("two sessions on one GPU", () => {
  it("run side by side within their slices", async () => {
    const first = pool.start(["run", "-n", "1", "-m", "512", "--", example("allocate"), "64", "2", "1000"]);
    await first.until("holding");
    const second = await pool.farpool(["run", "-n", "1", "-m", "512", "--", example("matrix-multiply")]);
    first.child.kill("SIGTERM");

    expect(second).toMatchObject({ status: 0 });
    expect(second.stdout).toMatch(/PASSED\n$/);
    await first.ended;
    await pool.expectNothingHeld();
  });
});

import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";

// What a program may conclude about work that is under way, or that will never happen.

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

describe("host functions behind a kernel that failed", () => {
  it("are dropped, and nothing waits for them after a reset", async () => {
    const folder = mkdtempSync(join(tmpdir(), "farpool-asynchrony-"));
    onTestFinished(() => {
      rmSync(folder, { recursive: true, force: true });
    });
    const words = [example("sticky-callbacks")];
    const direct = await runDirectly(words);
    const pooled = await pool.farpool(["run", "-n", "1", "--", ...words], {
      environment: { FARPOOL_STATISTICS: folder },
    });

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toContain("called: 0, told: cudaErrorIllegalAddress\n");
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
    const [file] = readdirSync(folder);
    const { waits } = JSON.parse(readFileSync(join(folder, file ?? "missing"), "utf8")) as {
      waits: Record<string, number>;
    };
    expect(waits["hello"]).toBe(1);
    expect(waits["farpoolFence"]).toBeUndefined();
  });
});

describe("a copy that is waited for by looking at its memory", () => {
  it.each(["unix", "tcp"])("arrives over %s", async (transport) => {
    const words = [example("poll-memory")];
    const environment = { FARPOOL_TRANSPORT: transport };
    const pooled = await pool.farpool(["run", "-n", "1", "--", ...words], { environment });

    expect(await runDirectly(words)).toMatchObject({ status: 0, stdout: "PASSED\n" });
    expect(pooled).toMatchObject({ status: 0, stdout: "PASSED\n", stderr: "" });
  });

  it("arrives from 5 ms away", async () => {
    const pooled = await pool.farpool(["run", "-n", "1", "--", example("poll-memory")], {
      environment: { FARPOOL_EMULATED_RTT: "5ms" },
    });

    expect(pooled).toMatchObject({ status: 0, stdout: "PASSED\n", stderr: "" });
  });
});

describe("a launch whose kernel fails", () => {
  const words = ["run", "-n", "1", "--", example("launch-error")];

  it("answers the error itself with CUDA_LAUNCH_BLOCKING=1", async () => {
    const pooled = await pool.farpool(words, { environment: { CUDA_LAUNCH_BLOCKING: "1" } });

    expect(pooled.stdout).toBe("launch: cudaErrorIllegalAddress\nsynchronize: cudaErrorIllegalAddress\n");
  });

  it("leaves it to a later call without", async () => {
    const pooled = await pool.farpool(words);

    expect(pooled.stdout).toMatch(/synchronize: cudaErrorIllegalAddress\n$/);
  });
});

describe("a stream with more work than a driver takes", () => {
  it.each(["kernels", "memsets", "copies", "callback", "destroyed", "failed"])(
    "holds back its caller and nobody else: %s",
    async (mode) => {
      const words = [example("full-queue"), mode];
      const direct = await runDirectly(words);
      const pooled = await pool.farpool(["run", "-n", "1", "--", ...words]);

      expect(direct).toMatchObject({ status: 0, stderr: "" });
      expect(direct.stdout).toMatch(/PASSED\n$/);
      expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
    },
  );
});

describe("programs that look closely", () => {
  it.each([
    ["copies leave room for other streams while theirs stands still", "standing-still"],
    ["copies by different ways land in the order of their stream", "graph-behind-copy"],
    ["the work of destroyed streams is waited for with their context and the legacy stream", "left-work"],
    ["calls within which CUDA waits do so where the program can tell", "waiting-calls"],
  ])("%s", async (_title, name) => {
    const direct = await runDirectly([example(name)]);
    const pooled = await pool.farpool(["run", "-n", "1", "--", example(name)]);

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
  });
});

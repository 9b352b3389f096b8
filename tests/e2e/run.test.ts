import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { waitFor } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

describe("run", () => {
  it("runs a command that uses no GPU, and says nothing", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", "true"]);
    expect(result).toMatchObject({ status: 0, stdout: "", stderr: "" });
  });

  it("passes the command's output, input and exit code through", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", "sh", "-c", "cat; echo problem >&2; exit 7"], {
      input: "some input\n",
    });

    expect(result).toMatchObject({ status: 7, stdout: "some input\n", stderr: "problem\n" });
  });

  it("ends with 128 + n when the command was ended by signal n", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", "sh", "-c", "kill -SEGV $$"]);

    expect(result.status).toBe(128 + 11);
  });

  it("sets the session and the loader path, and leaves no empty element in it", async () => {
    const words = ["run", "-n", "1", "--", "sh", "-c", 'echo "$FARPOOL_SESSION"; echo "$LD_LIBRARY_PATH"'];

    const plain = await pool.farpool(words);
    const extended = await pool.farpool(words, { environment: { LD_LIBRARY_PATH: "/opt/lib" } });

    expect(plain.stdout).toMatch(/^\/\S+\n\/[^:\n]+\n$/);
    expect(extended.stdout).toMatch(/^\/\S+\n\/[^:\n]+:\/opt\/lib\n$/);
  });

  it("tells on a summary with -v which GPU was held", async () => {
    const result = await pool.farpool(["run", "-v", "-n", "1", "--", example("vector-add")]);

    expect(result.status).toBe(0);
    expect(result.stderr).toContain("1 × Farpool Simulated GPU");
  });

  it("counts everything in the summary of a program that ends at once", async () => {
    const file = join(pool.folder, "summary.json");
    for (let round = 0; round < 12; round += 1) {
      const words = ["run", "-n", "1", "--summary", file, "--", example("vector-add")];
      expect(await pool.farpool(words)).toMatchObject({ status: 0, stderr: "" });

      const summary = JSON.parse(readFileSync(file, "utf8")) as Record<string, number>;
      expect(summary).toMatchObject({ processes: 1, kernelLaunches: 1 });
      for (const count of ["calls", "roundTrips", "localCalls"]) expect(summary[count]).toBeGreaterThan(0);
    }
  });

  it("is ended by TERM with everything below it", async () => {
    const run = pool.start(["run", "-n", "1", "--", "sh", "-c", "sleep 1000 & echo started $!; wait"]);
    await run.until("started");
    const sleeper = Number(/started (\d+)/.exec(run.stdout())?.[1]);
    process.kill(run.pid, "SIGTERM");

    const result = await run.ended;

    expect(result.status).toBe(128 + 15);
    expect(() => process.kill(sleeper, 0)).toThrow("ESRCH");
    await pool.expectNothingHeld();
  });
});

describe("shell", () => {
  it("runs a shell in which CUDA programs find the GPU", async () => {
    const result = await pool.farpool(["shell", "-n", "1"], {
      input: `${example("vector-add")}\nexit 3\n`,
      environment: { SHELL: "/bin/sh" },
    });

    expect(result).toMatchObject({ status: 3 });
    expect(result.stdout).toContain("PASSED\n");
    await pool.expectNothingHeld();
  });

  it("shares its session with `run` inside", async () => {
    const result = await pool.farpool(["shell", "-n", "1"], {
      input: `echo $FARPOOL_SESSION\nfarpool=$0\n${process.cwd()}/farpool run -- sh -c 'echo $FARPOOL_SESSION'\n`,
      environment: { SHELL: "/bin/sh" },
    });

    const [outer, inner] = result.stdout.trim().split("\n");
    expect(inner).toBe(outer);
  });
});

describe("a second session", () => {
  it("waits until the first one ends", async () => {
    const first = pool.start(["run", "-n", "1", "--", "sleep", "1"]);
    await pool.sessionOf(first);
    const second = await pool.farpool(["run", "-n", "1", "--", "echo", "granted"]);

    expect(second).toMatchObject({ status: 0, stdout: "granted\n" });
    await first.ended;
  });

  it("is refused with 75 when it must not wait", async () => {
    const first = pool.start(["run", "-n", "1", "--", "sleep", "1000"]);
    await pool.sessionOf(first);
    const second = await pool.farpool(["run", "-n", "1", "--wait", "0", "--", "true"]);
    first.child.kill("SIGTERM");

    expect(second).toMatchObject({ status: 75, stdout: "" });
    expect(second.stderr).toContain("farpool: 1 GPU: waited 0 s, none is free now\n");
    await waitFor("the end of the first", async () => (await first.ended) && true);
  });
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { processesMentioning } from "./kit/processes.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

describe("up", () => {
  it("refuses a second pool in the same folder and names the first one's process", async () => {
    const second = await pool.farpool(["up", "--simulated"]);

    expect(second.status).toBe(75);
    expect(second.stderr).toContain("already running");
    expect(second.stderr).toContain(String(pool.up.pid));
  });

  it("listens on localhost only", async () => {
    const { servers } = await pool.client.call("listServers", {});

    const hosts = servers.flatMap(({ endpoints }) =>
      endpoints.flatMap((each) => (each.kind === "unix" ? [] : [each.host])),
    );
    expect(hosts.length).toBeGreaterThan(0);
    expect(hosts.filter((host) => host !== "127.0.0.1" && host !== "localhost" && host !== "::1")).toEqual(
      [],
    );
  });
});

describe("status, gpus and smi", () => {
  it.each(["status", "gpus", "smi"])("%s prints a page for people and JSON for programs", async (command) => {
    const page = await pool.farpool([command]);
    const json = await pool.farpool([command, "--json"]);

    expect(page).toMatchObject({ status: 0, stderr: "" });
    expect(page.stdout.trim()).not.toBe("");
    expect(json).toMatchObject({ status: 0, stderr: "" });
    expect(JSON.parse(json.stdout)).toBeTypeOf("object");
  });

  it("smi shows the session, its program and the memory it holds", async () => {
    const run = pool.start(["run", "-n", "1", "-m", "1024", "--", example("busy"), "100000", "64"]);
    await run.until("round 2\n");
    const session = await pool.sessionOf(run);
    await expect
      .poll(async () => (await pool.farpool(["smi"])).stdout, { timeout: 10_000 })
      .toMatch(/busy +\d+ MiB \/ 1 GiB/);
    const { stdout } = await pool.farpool(["smi"]);
    run.child.kill("SIGTERM");
    await run.ended;

    expect(stdout).toContain(session.id);
    expect(stdout).toContain("busy");
    expect(stdout).toContain("1 GiB");
    await pool.expectNothingHeld();
  });
});

describe("doctor", () => {
  it("finds nothing wrong on a machine with a running pool", async () => {
    const result = await pool.farpool(["doctor"]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
  });

  it("tells which libcuda a program would load", async () => {
    const result = await pool.farpool(["doctor", "--", example("vector-add")]);

    expect(result.status).toBe(0);
    expect(result.stdout).toContain("lib/shim/libcuda.so.1");
  });

  it("fails without a pool", async () => {
    const result = await pool.farpool(["doctor"], {
      environment: { FARPOOL_STATE: "/nonexistent", FARPOOL_RUNTIME: "/nonexistent" },
    });

    expect(result.status).toBe(69);
  });
});

describe("health", () => {
  it("finds no failure in a running pool, and measures calls and copies through it", async () => {
    const result = await pool.farpool(["health", "--measure", "--json"]);

    expect(result).toMatchObject({ status: 0, stderr: "" });
    const { sections } = JSON.parse(result.stdout) as {
      sections: Array<{ checks: Array<{ name: string; result: string; message: string }> }>;
    };
    const checks = sections.flatMap((section) => section.checks);
    expect(checks.filter((check) => check.result === "fail")).toEqual([]);
    expect(checks.find(({ name }) => name === "throughput")?.message).toMatch(
      /^Farpool Simulated GPU: round trip [\d.]+ µs, to the GPU [\d.]+ GB\/s, from the GPU [\d.]+ GB\/s$/,
    );
    await pool.expectNothingHeld();
  });

  it("fails without a pool", async () => {
    const result = await pool.farpool(["health"], {
      environment: { FARPOOL_STATE: "/nonexistent", FARPOOL_RUNTIME: "/nonexistent" },
    });

    expect(result.status).toBe(69);
  });
});

describe("down", () => {
  it("ends the pool and every process of it", async () => {
    const other = await startPool();
    const result = await other.farpool(["down"]);

    expect(result).toMatchObject({ status: 0 });
    expect((await other.up.ended).status).toBe(0);
    await expect.poll(() => processesMentioning(other.folder)).toEqual([]);
    await other.stop();
  });
});

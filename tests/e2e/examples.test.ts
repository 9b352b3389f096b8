import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { tcpPeers } from "./kit/processes.ts";
import { type ProgramResult, waitFor } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

const programs = [
  "vector-add",
  "matrix-multiply",
  "load-ptx",
  "kernel-lookup",
  "vector-add-shared",
  "matrix-multiply-shared",
  "atomics",
  "attributes",
  "device-printf",
  "dynamic-shared",
  "event-polling",
  "host-function",
  "host-threads",
  "launch-queue",
  "out-of-memory",
  "per-thread-stream",
  "rectangles",
  "reduction",
  "stream-allocation",
  "stream-overlap",
  "symbols",
  "two-gpu-relay",
];

describe.each(programs)("%s", (name) => {
  let direct: ProgramResult;
  beforeAll(async () => {
    direct = await runDirectly([example(name)]);
  });

  it("verifies its result on the simulated GPU alone", () => {
    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
  });

  it.each(["unix", "tcp"])("gives the same output through the pool over %s", async (transport) => {
    const pooled = await pool.farpool(["run", "-n", "1", "--", example(name)], {
      environment: { FARPOOL_TRANSPORT: transport },
    });

    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
  });
});

describe("FARPOOL_TRANSPORT", () => {
  it.each([
    ["tcp", true],
    ["unix", false],
  ])("%s: TCP is used: %s", async (transport, expected) => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "100000"], {
      environment: { FARPOOL_TRANSPORT: transport },
    });
    await run.until("round 2\n");
    const session = await pool.sessionOf(run);
    const client = await waitFor("the client's process id", async () => {
      const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
      return shown.processes[0]?.clientPid ?? undefined;
    });
    const usesTcp = tcpPeers(client).includes(pool.dataPort);
    process.kill(client, "SIGKILL");
    await run.ended;

    expect(usesTcp).toBe(expected);
    await pool.expectNothingHeld();
  });
});

describe("device-query", () => {
  it("sees the GPU of the session, whole", async () => {
    const direct = await runDirectly([example("device-query")]);
    const pooled = await pool.farpool(["run", "-n", "1", "--", example("device-query")]);

    expect(pooled).toMatchObject({ status: 0, stdout: direct.stdout });
    expect(pooled.stdout).toContain("GPUs: 1,");
  });
});

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { openSockets } from "./kit/processes.ts";
import { type RunningProgram, waitFor } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

/** The process on the client's side of the run's only worker. */
async function clientOf(run: RunningProgram): Promise<number> {
  const session = await pool.sessionOf(run);
  return waitFor("the client's process id", async () => {
    const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
    return shown.processes[0]?.clientPid ?? undefined;
  });
}

describe.each(["unix", "tcp"])("bulk copies over %s", (transport) => {
  const environment = { FARPOOL_TRANSPORT: transport };

  it("go both ways at once", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("both-ways")], { environment });

    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toMatch(/PASSED\n$/);
  });

  it("do not keep a program from ending, behind a kernel that never does", async () => {
    const result = await pool.farpool(["run", "-n", "1", "--", example("both-ways"), "exit"], {
      environment,
    });

    expect(result).toMatchObject({ status: 3, stdout: "leaving\n", stderr: "" });
    await pool.expectNothingHeld();
  });

  it.each(["", "1ms"])("bring every byte, whatever way the data take, %s", async (rtt) => {
    const direct = await runDirectly([example("long-data")]);
    const result = await pool.farpool(["run", "-n", "1", "--", example("long-data")], {
      environment: { ...environment, ...(rtt === "" ? {} : { FARPOOL_EMULATED_RTT: rtt }) },
    });

    expect(direct).toMatchObject({ status: 0, stderr: "" });
    expect(direct.stdout).toMatch(/PASSED\n$/);
    expect(result).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
  });

  it.each([
    ["a second connection, once long data travel", "long-data", 2],
    ["one connection, while they do not", "busy", 1],
  ])("use %s", async (_title, program, connections) => {
    const run = pool.start(["run", "-n", "1", "--", example(program), "1000000"], { environment });
    const client = await clientOf(run);
    const sockets = await waitFor("the client's connections", () => {
      const open = openSockets(client);
      return open.length >= connections ? open : undefined;
    });
    process.kill(client, "SIGKILL");
    await run.ended;

    expect(sockets).toHaveLength(connections);
    await pool.expectNothingHeld();
  });
});

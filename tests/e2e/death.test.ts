import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { processTree, processesMentioning } from "./kit/processes.ts";
import { type RunningProgram, waitFor } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

interface Busy {
  readonly run: RunningProgram;
  readonly clientPid: number;
  readonly workerPid: number;
}

/** A program that computes and holds 64 MiB, with its process ids. */
async function startBusy(rounds = 1_000_000): Promise<Busy> {
  const run = pool.start(["run", "-n", "1", "--", example("busy"), String(rounds), "64"]);
  await run.until("round 2\n");
  const session = await pool.sessionOf(run);
  const pids = await waitFor("the session's process", async () => {
    const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
    const clientPid = shown.processes[0]?.clientPid ?? undefined;
    const workerPid = shown.processes[0]?.workerPid;
    return clientPid === undefined || workerPid === undefined ? undefined : { clientPid, workerPid };
  });
  const gpu = await waitFor("used memory", async () => {
    const answer = await pool.gpu();
    const used = answer.sessions.reduce((sum, session) => sum + session.memoryUsedBytes, 0);
    return used >= 64 * 2 ** 20 ? answer : undefined;
  });
  expect(gpu.wholeFree).toBe(false);
  return { run, ...pids };
}

/** What `farpool smi --json` says of the memory in use, over all GPUs. */
async function smiMemoryUsed(): Promise<number> {
  const result = await pool.farpool(["smi", "--json"]);
  expect(result).toMatchObject({ status: 0, stderr: "" });
  const { gpus } = JSON.parse(result.stdout) as { gpus: { memoryUsedBytes: number | null }[] };
  return gpus.reduce((sum, gpu) => sum + (gpu.memoryUsedBytes ?? 0), 0);
}

describe("kill -9 of", () => {
  it("the client process: GPU memory is free and no process is left", async () => {
    const busy = await startBusy();
    process.kill(busy.clientPid, "SIGKILL");

    expect((await busy.run.ended).status).toBe(128 + 9);
    await pool.expectNothingHeld();
    expect(await smiMemoryUsed()).toBe(0);
  });

  it("`farpool run`: its program and worker end, GPU memory is free", async () => {
    const busy = await startBusy();
    const below = processTree(busy.run.pid);
    process.kill(busy.run.pid, "SIGKILL");

    await busy.run.ended;
    await pool.expectNothingHeld();
    expect(await smiMemoryUsed()).toBe(0);
    await waitFor(`the end of ${JSON.stringify(below)}`, () => {
      return processesMentioning(example("busy")).length === 0 ? true : undefined;
    });
  });

  it("the worker: the program gets an error, GPU memory is free", async () => {
    const busy = await startBusy();
    process.kill(busy.workerPid, "SIGKILL");

    const result = await busy.run.ended;
    expect(result.status).toBe(1);
    expect(result.stderr).toContain("cudaErrorDevicesUnavailable");
    await pool.expectNothingHeld();
    expect(await smiMemoryUsed()).toBe(0);
  });

  it.each(["agent", "manager"])("the %s: the running program does not notice", async (role) => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "150"]);
    await run.until("round 2\n");
    await pool.sessionOf(run);
    const victim = serviceProcess(role);
    process.kill(victim, "SIGKILL");

    const result = await run.ended;
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("round 150\nPASSED\n");
    expect(serviceProcess(role)).not.toBe(victim);
    await pool.expectNothingHeld();
  });

  it("the acceptor: the next program runs again", async () => {
    process.kill(serviceProcess("acceptor"), "SIGKILL");

    const result = await waitFor("a successful run", async () => {
      const attempt = await pool.farpool(["run", "-n", "1", "--", example("vector-add")]);
      return attempt.status === 0 ? attempt : undefined;
    });

    expect(result.stdout).toMatch(/PASSED\n$/);
    await pool.expectNothingHeld();
  });
});

/** The process of this pool with a role; `up` restarts it when it has died. */
function serviceProcess(role: string): number {
  const pattern = role === "acceptor" ? /farpool-acceptor/ : new RegExp(`farpool\\.mjs internal ${role} `);
  const [found] = processesMentioning(pool.folder).filter(({ command }) => pattern.test(command));
  if (found === undefined) throw new Error(`no ${role} runs in ${pool.folder}`);
  return found.pid;
}

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { isAlive, processTree, processesMentioning } from "./kit/processes.ts";
import { type RunningProgram, waitFor } from "./kit/program.ts";
import { within } from "./kit/within.ts";

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

describe.each(["tcp", "unix"])("over %s", (transport) => {
  const environment = { FARPOOL_TRANSPORT: transport };

  it("kill -9 of a client process whose child holds its socket: worker and memory go", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("lifetimes"), "fork"], { environment });
    await run.until("child ");
    const client = numberAfter("holding", run.stdout());
    const child = numberAfter("child", run.stdout());
    const worker = await workerOf(run, client);
    // The agent asks the driver every 30 s.
    await waitFor(
      "its memory in use",
      async () => ((await smiMemoryUsed()) >= HELD_BYTES ? true : undefined),
      45_000,
    );

    const killed = performance.now();
    process.kill(client, "SIGKILL");
    await waitFor("the end of its worker", () => (isAlive(worker) ? undefined : true));
    const workerMs = performance.now() - killed;
    await waitFor("its memory free", async () =>
      (await pool.gpu()).memoryUsedBytes === 0 ? true : undefined,
    );
    const memoryMs = performance.now() - killed;
    console.log(
      `${transport}: worker gone ${workerMs.toFixed(0)} ms after the kill, seen free ${memoryMs.toFixed(0)} ms after`,
    );

    expect(isAlive(child)).toBe(true);
    process.kill(child, "SIGKILL");
    await within("the end of farpool run", run.ended);
    await pool.expectNothingHeld();
  });

  it("kill -9 of `farpool run`: program, worker and memory go", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "1000000", "64"], { environment });
    await run.until("round 2\n");
    const [process_] = await processesOf(run, 1);
    if (process_ === undefined) throw new Error("the session has no process");
    process.kill(run.pid, "SIGKILL");

    const { clientPid, workerPid } = process_;
    await waitFor("the end of both", () => ([clientPid, workerPid].some(isAlive) ? undefined : true));
    expect(processTree(run.pid)).toEqual([]);
    await pool.expectNothingHeld();
  });

  it("kill -9 of a worker: its program gets the sticky error, others of the session go on", async () => {
    const script = `"$1" 1000000 & "$1" 150; status=$?; wait; exit $status`;
    const words = ["run", "-n", "1", "--", "sh", "-c", script, "sh", example("busy")];
    const run = pool.start(words, { environment });
    await run.until("round 2\n");
    const processes = await processesOf(run, 2);
    const endless = processTree(run.pid).find(({ command }) => command.endsWith(" 1000000"))?.pid;
    const victim = processes.find(({ clientPid }) => clientPid === endless);
    if (victim === undefined)
      throw new Error(`no worker for process ${endless}: ${JSON.stringify(processes)}`);
    process.kill(victim.workerPid, "SIGKILL");

    const result = await within("the end of both programs", run.ended);
    expect(result.stderr).toContain("cudaErrorDevicesUnavailable");
    expect(result.stdout).toContain("round 150\nPASSED\n");
    expect(result.status).toBe(0);
    await pool.expectNothingHeld();
  });

  it("exec in a client process: the old connection's worker ends, the new program runs", async () => {
    const words = ["run", "-n", "1", "--", example("lifetimes"), "exec", example("busy"), "1000000"];
    const run = pool.start(words, { environment, keepInput: true });
    await run.until("holding ");
    const client = numberAfter("holding", run.stdout());
    const before = await workerOf(run, client);
    run.child.stdin?.write("\n");
    await run.until("round 2\n");

    await waitFor("the end of the first worker", () => (isAlive(before) ? undefined : true));
    const after = await workerOf(run, client);
    expect(isAlive(after)).toBe(true);
    process.kill(client, "SIGKILL");
    await within("the end of farpool run", run.ended);
    await pool.expectNothingHeld();
  });
});

/** What `lifetimes` holds of the GPU. */
const HELD_BYTES = 64 * 2 ** 20;

interface WorkerProcess {
  readonly clientPid: number;
  readonly workerPid: number;
}

/** The living processes of the session that a `farpool run` holds, when there are that many. */
async function processesOf(run: RunningProgram, count: number): Promise<readonly WorkerProcess[]> {
  const session = await pool.sessionOf(run);
  return waitFor(`${count} processes of session ${session.id}`, async () => {
    const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
    const found = shown.processes.flatMap(({ clientPid, workerPid }) =>
      clientPid === null || !isAlive(workerPid) ? [] : [{ clientPid, workerPid }],
    );
    return found.length >= count ? found : undefined;
  });
}

async function workerOf(run: RunningProgram, client: number): Promise<number> {
  return waitFor(`a worker for process ${client}`, async () => {
    const all = await processesOf(run, 1);
    return all.findLast(({ clientPid }) => clientPid === client)?.workerPid;
  });
}

function numberAfter(word: string, output: string): number {
  const found = new RegExp(`${word} (\\d+)`).exec(output)?.[1];
  if (found === undefined) throw new Error(`'${word} NUMBER' is not in the output:\n${output}`);
  return Number(found);
}

/** The process of this pool with a role; `up` restarts it when it has died. */
function serviceProcess(role: string): number {
  const pattern = role === "acceptor" ? /farpool-acceptor/ : new RegExp(`farpool\\.mjs internal ${role} `);
  const [found] = processesMentioning(pool.folder).filter(({ command }) => pattern.test(command));
  if (found === undefined) throw new Error(`no ${role} runs in ${pool.folder}`);
  return found.pid;
}

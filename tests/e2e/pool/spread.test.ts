import type { Gpu, SessionDetail } from "@farpool/contract";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Machine } from "../kit/machine.ts";
import { type Machines, databases, named, startMachines } from "../kit/machines.ts";
import { example, runDirectly } from "../kit/pool.ts";
import { isAlive } from "../kit/processes.ts";
import { waitFor } from "../kit/program.ts";
import { hold, json, sessionIn } from "../kit/sessions.ts";

/** GPUs of two servers, whichever: each has two. */
const THREE = ["-n", "3", "--spread-servers"];

describe.each(databases)("on the %s PostgreSQL, with two managers", (database) => {
  let pool: Machines;
  const [ann, ben] = ["ws-1", "ws-2"] as const;
  const on = (client: string): Machine => named(pool.clients, client);
  beforeAll(async () => {
    pool = await startMachines({
      database,
      servers: {
        "gpu-01": { gpus: 2, memory: "4GiB" },
        "gpu-02": { gpus: 2, memory: "4GiB" },
        "gpu-03": { gpus: 2, memory: "4GiB" },
      },
      clients: [ann, ben],
    });
  });
  afterEach(() => pool.expectNothingHeld());
  afterAll(() => pool.stop());

  const show = (id: string): Promise<SessionDetail> => json(pool.admin, "sessions", "show", id);
  const freeGpus = async (): Promise<Record<string, number>> => {
    const { gpus } = await json<{ gpus: Gpu[] }>(pool.admin, "gpus");
    const free: Record<string, number> = { "gpu-01": 0, "gpu-02": 0, "gpu-03": 0 };
    for (const { serverName, wholeFree } of gpus)
      if (serverName in free) free[serverName] = (free[serverName] ?? 0) + Number(wholeFree);
    return free;
  };

  it("a program works on the GPUs of three servers as it does on those of one", async () => {
    const direct = await runDirectly([example("several-gpus")], 5);
    const { status, stdout, stderr } = await on(ann).farpool([
      ...["run", "-v", "-n", "5", "--spread-servers", "--", example("several-gpus")],
    ]);
    expect({ status, stdout, stderr }).toMatchObject({ status: 0, stdout: direct.stdout });
    expect(stderr).toMatch(/^5 × Farpool Simulated GPU 4GiB, gpu-0\d, gpu-0\d, gpu-0\d, session s-\w{8}$/m);
    const session = await show(sessionIn(stderr));
    const names = [session.serverName, ...session.furtherServers.map(({ name }) => name)];
    expect(new Set(names)).toEqual(new Set(["gpu-01", "gpu-02", "gpu-03"]));
    expect(new Set(session.gpus.map(({ uuid }) => uuid)).size).toBe(5);
  });

  it("values go round between the GPUs of two servers: copies, pinned memory, events", async () => {
    const program = ["run", ...THREE, "--", "env", "CUDA_VISIBLE_DEVICES=1,2", example("two-gpu-relay")];
    const direct = await runDirectly([example("two-gpu-relay")], 2);
    expect(await on(ann).farpool(program)).toMatchObject({ status: 0, stdout: direct.stdout, stderr: "" });
  });

  it("a program that sees the GPU of one of the servers only leaves the others alone", async () => {
    const words = ["run", "-v", ...THREE, "--", "env", "CUDA_VISIBLE_DEVICES=2", example("busy")];
    const run = on(ann).start([...words, "1000000", "16", "100"]);
    await run.until("round 1\n");
    const id = sessionIn(run.stderr());
    const living = await waitFor("one worker", async () => {
      const { processes } = await show(id);
      const alive = processes.filter(({ endedAt }) => endedAt === null);
      return alive.length === 1 && processes.length === 2 ? alive : undefined;
    });
    expect(living).toHaveLength(1);
    run.child.kill("SIGTERM");
    await run.ended;
  });

  it("what there is, is the same for NVML: three GPUs at three addresses", async () => {
    const listed = await on(ann).farpool(["run", ...THREE, "--", "nvidia-smi", "-L"]);
    expect(listed).toMatchObject({ status: 0 });
    const uuids = listed.stdout.match(/GPU-[0-9a-f-]{36}/g) ?? [];
    expect(new Set(uuids).size).toBe(3);
    const query = ["nvidia-smi", "--query-gpu=pci.bus_id", "--format=csv,noheader"];
    const { stdout } = await on(ann).farpool(["run", ...THREE, "--", ...query]);
    expect(new Set(stdout.trim().split("\n")).size).toBe(3);
  });

  it("all GPUs are granted together or not at all, and those of one server where one has them", async () => {
    const holder = await hold(on(ann), ...THREE);
    expect(Object.values(await freeGpus()).toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
    const refused = await on(ben).farpool([
      "run",
      "-n",
      "4",
      "--spread-servers",
      "--wait",
      "0",
      "--",
      "true",
    ]);
    expect(refused).toMatchObject({ status: 75, stdout: "" });
    const together = await hold(on(ben), "-n", "2", "--spread-servers");
    expect((await show(together.id)).furtherServers).toEqual([]);
    const waiting = on(ben).start(["run", "-v", ...THREE, "--", example("several-gpus")]);
    await waiting.until("waiting for 3 GPUs");
    await holder.end();
    expect(await waiting.ended).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
    await together.end();
    const tooMany = await on(ben).farpool(["run", "-n", "99", "--spread-servers", "--", "true"]);
    expect(tooMany).toMatchObject({
      status: 69,
      stderr: expect.stringMatching(
        /the largest session of this size that the pool can ever grant is [68] × /,
      ),
    });
  });

  it("a reserved session on several servers lets programs in, one after the other", async () => {
    const reserved = await on(ann).output("reserve", ...THREE);
    const id = sessionIn(`session ${/s-\w{8}/.exec(reserved)?.[0]}`);
    for (const program of ["several-gpus", "vector-add"]) {
      const run = await on(ann).farpool(["attach", id, "--", example(program)]);
      expect(run).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
    }
    await on(ann).output("release", id);
  });

  it("a worker that is killed on one server ends the program's work there, and nothing is left on the other", async () => {
    const run = on(ann).start([...["run", "-v", ...THREE, "--"], example("busy"), "1000000", "16", "100"]);
    await run.until("round 1\n");
    const { processes } = await show(sessionIn(run.stderr()));
    expect(processes).toHaveLength(2);
    // The program computes on the first GPU, whose server's worker is the busy one.
    for (const { workerPid } of processes) if (isAlive(workerPid)) process.kill(workerPid, "SIGKILL");
    const { status, stderr } = await run.ended;
    expect(status).not.toBe(0);
    expect(stderr).toContain("cudaErrorDevicesUnavailable");
  });
});

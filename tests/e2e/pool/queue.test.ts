import type { Gpu, Queue, SessionDetail } from "@farpool/contract";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Machine } from "../kit/machine.ts";
import { type Machines, databases, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { type RunningProgram, waitFor } from "../kit/program.ts";
import { hold, json, queue, sessionIn } from "../kit/sessions.ts";

const SMALL = ["--filter", "server.name=gpu-01"];
const LARGE = ["--filter", "server.name=gpu-02"];

describe.each(databases)("on the %s PostgreSQL, with two managers", (database) => {
  let pool: Machines;
  const [ann, ben, eve] = ["ws-1", "ws-2", "ws-3"] as const;
  const on = (client: string): Machine => named(pool.clients, client);
  beforeAll(async () => {
    pool = await startMachines({
      database,
      servers: { "gpu-01": { gpus: 2, memory: "4GiB" }, "gpu-02": { gpus: 4, memory: "8GiB" } },
      clients: [ann, ben, eve],
      words: ["--reserve-after", "2s", "--fair-share-half-life", "1h"],
    });
  });
  afterEach(() => pool.expectNothingHeld());
  afterAll(() => pool.stop());

  const show = (id: string): Promise<SessionDetail> => json(pool.admin, "sessions", "show", id);
  const grantedAt = async (run: RunningProgram): Promise<number> =>
    Date.parse((await show(sessionIn(run.stderr()))).grantedAt ?? "");
  const expectPassed = async (run: RunningProgram): Promise<void> =>
    expect(await run.ended).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
  const gpusOf = async (id: string): Promise<readonly string[]> =>
    (await show(id)).gpus.map(({ uuid }) => uuid);

  it("who waits on a terminal reads position, time and reason, then what was granted, then what it used", async () => {
    const holder = await hold(on(ann), "-n", "3", ...LARGE, "--max-duration", "12m");
    await queue(on(eve), "waiting for 2 GPUs", "-n", "2", ...LARGE, "--max-duration", "1m");
    const terminal = on(ben).onTerminal(["run", "-n", "4", ...LARGE, "--", example("vector-add")]);
    await waitFor("the line", () =>
      /waiting for 4 GPUs .*\(position 2, about 1\d min, session s-\w{8}\)/.test(terminal.stdout())
        ? true
        : undefined,
    );
    const listed = await pool.managers[1].output("queue");
    expect(listed).toMatch(/^1 +s-\w{8} +root@ws-3 +2 GPUs, server\.name=gpu-02 +50 .* about 12 min +/m);
    expect(listed).toMatch(
      /^2 +s-\w{8} +root@ws-2 +4 GPUs, server\.name=gpu-02 +50 .* about 1\d min +4 GPUs /m,
    );
    await holder.end();
    const { status, stdout } = await terminal.ended;
    expect(status).toBe(0);
    expect(stdout).toMatch(/^4 × Farpool Simulated GPU 8GiB, gpu-02, session s-\w{8}\r\n/m);
    expect(stdout).toMatch(/PASSED\r\nheld [\d.]+ s, GPU busy \d+ %\r\n$/);
  });

  it("several GPUs are granted together, on one server, or not at all", async () => {
    const holder = await hold(on(ann), "-n", "3", ...LARGE);
    const refused = await on(ben).farpool(["run", "-n", "4", "--wait", "0", "--", "true"]);
    expect(refused).toMatchObject({ status: 75, stdout: "" });
    const waiting = on(ben).start(["run", "-v", "-n", "2", ...LARGE, "--", example("two-gpu-relay")]);
    await waiting.until("waiting for 2 GPUs");
    // The one that is free stays so until there are two.
    const { gpus } = await json<{ gpus: Gpu[] }>(pool.admin, "gpus");
    expect(gpus.filter((gpu) => gpu.serverName === "gpu-02" && gpu.wholeFree)).toHaveLength(1);
    await holder.end();
    await expectPassed(waiting);
    const tooMany = await on(ben).farpool(["run", "-n", "5", "--", "true"]);
    expect(tooMany).toMatchObject({
      status: 69,
      stderr: expect.stringContaining("can ever grant is 4 × Farpool Simulated GPU 8GiB"),
    });
  });

  it.each([
    ["gpu.memory>=5GiB", "gpu-02", 8192],
    ["gpu.memory<8GiB", "gpu-01", 4096],
    ["device.phy-memory<=4096", "gpu-01", 4096],
    ["gpu.name=*8GiB", "gpu-02", 8192],
    ["gpu.name!=*8GiB", "gpu-01", 4096],
    ["server.hostname=GPU-02", "gpu-02", 8192],
    ["gpu.index>2", "gpu-02", 8192],
  ])("the filter %s leads to %s", async (filter, server, mebibytes) => {
    const words = ["run", "-v", "--filter", filter, "--", example("device-query")];
    const result = await on(ann).farpool(words);
    expect(result).toMatchObject({ status: 0, stderr: expect.stringContaining(`, ${server}, session `) });
    expect(result.stdout).toContain(`memory              ${mebibytes} MiB\n`);
  });

  it("slices of several users share a GPU where that leaves the most whole; each sees its own size", async () => {
    const quarter = await hold(on(ann), "-p", "0.25", ...SMALL);
    const half = await hold(on(ben), "-p", "0.5", ...SMALL);
    expect(await gpusOf(half.id)).toEqual(await gpusOf(quarter.id));
    const seen = await on(eve).farpool(["run", "-m", "1024", ...SMALL, "--", example("device-query")]);
    expect(seen.stdout).toContain("memory              1024 MiB\n");
    const whole = await hold(on(eve), ...SMALL);
    expect(await gpusOf(whole.id)).not.toEqual(await gpusOf(half.id));
    // What is left of the first GPU is a quarter.
    const tooLarge = ["run", "-p", "0.5", ...SMALL, "--wait", "0", "--", "true"];
    expect(await on(ben).farpool(tooLarge)).toMatchObject({ status: 75 });
    for (const held of [quarter, half, whole]) await held.end();
  });

  it("the higher priority goes first, whoever asked before", async () => {
    const holder = await hold(on(eve), "-n", "2", ...SMALL);
    const low = await queue(on(ann), "waiting for", "-n", "2", ...SMALL, "--priority", "10");
    const high = await queue(on(ben), "waiting for", "-n", "2", ...SMALL, "--priority", "40");
    expect(await pool.admin.output("queue")).toMatch(/^1 .*root@ws-2 .* 40 .*\n2 .*root@ws-1 .* 10 /m);
    await holder.end();
    await Promise.all([low, high].map(expectPassed));
    expect(await grantedAt(high)).toBeLessThan(await grantedAt(low));
    const tooHigh = await on(ann).farpool(["run", "--priority", "60", "--", "true"]);
    expect(tooHigh).toMatchObject({
      status: 77,
      stderr: expect.stringContaining(
        "policy 'highest priority': asked for 60, allowed: 50 (nobody has set it)",
      ),
    });
  });

  it("among equals the user goes first who has had less, whoever asked before", async () => {
    const had = await hold(on(ann), "-n", "4", ...LARGE);
    await waitFor("some GPU time", async () => (await show(had.id)).usage.heldMs > 3_000);
    await had.end();
    const holder = await hold(on(eve), "-n", "2", ...SMALL);
    const more = await queue(on(ann), "waiting for", "-n", "2", ...SMALL);
    const less = await queue(on(ben), "waiting for", "-n", "2", ...SMALL);
    expect(await pool.admin.output("queue")).toMatch(/^1 .*root@ws-2 .*\n2 .*root@ws-1 /m);
    // While the server closes the holder's session, GPUs are kept for the first that has waited for so long.
    await waitFor("two seconds", async () => {
      const { entries } = await json<Queue>(pool.admin, "queue");
      return entries.every(({ session }) => Date.now() - Date.parse(session.requestedAt) > 2_500);
    });
    await holder.end();
    await Promise.all([more, less].map(expectPassed));
    expect(await grantedAt(less)).toBeLessThan(await grantedAt(more));
  });

  it("GPUs are kept for a large session that waits; who is gone in time goes before it", async () => {
    const holder = await hold(on(ann), ...SMALL, "--max-duration", "10m");
    const large = await queue(on(ben), "2 GPUs to become free on gpu-01, kept for it", "-n", "2", ...SMALL);
    const small = await queue(on(eve), "what is free is kept for s-", ...SMALL);
    const once = (duration: string) =>
      on(eve).farpool([
        "run",
        ...SMALL,
        "--max-duration",
        duration,
        "--wait",
        "0",
        "--",
        example("vector-add"),
      ]);
    expect(await once("11m")).toMatchObject({ status: 75 });
    expect(await once("5m")).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
    await holder.end();
    await Promise.all([large, small].map(expectPassed));
    expect(await grantedAt(large)).toBeLessThan(await grantedAt(small));
  });

  it("who waits no longer than --wait, or is interrupted, leaves the queue at once", async () => {
    const holder = await hold(on(ann), "-n", "2", ...SMALL);
    const limited = await on(ben).farpool(["run", "-n", "2", ...SMALL, "--wait", "1s", "--", "true"]);
    expect(limited).toMatchObject({
      status: 75,
      stderr: expect.stringContaining("waited 1.0 s, none became free"),
    });
    const waiting = await queue(on(ben), "waiting for", "-n", "2", ...SMALL);
    waiting.child.kill("SIGINT");
    expect((await waiting.ended).status).toBe(130);
    expect(await pool.admin.output("queue")).toBe("nobody waits\n");
    await holder.end();
  });
});

import { GIB, waitFor, type Program } from "@farpool/testkit";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { addServer } from "../testing/server.ts";

/** This machine's server has two GPUs of 8 GiB; the others are larger, by number and by memory. */
let pool: TestPool;
const servers: Array<{ stop(): Promise<void> }> = [];
beforeAll(async () => {
  pool = await startTestPool(["--reserve-after", "1s", "--fair-share-half-life", "1h"]);
  for (const [name, count, gib] of [
    ["gpu-02", 2, 40],
    ["gpu-03", 4, 16],
  ] as const) {
    const gpus = Array.from({ length: count }, (_, index) => ({
      uuid: `GPU-${name}-${index}`,
      name: `Fake GPU ${gib}`,
      memoryTotalBytes: gib * GIB,
    }));
    servers.push(await addServer(pool, name, gpus));
  }
});
afterAll(async () => {
  for (const server of servers) await server.stop();
  const { status } = await pool.stop();
  if (status !== 0) throw new Error(`up ended with ${status}`);
});

const programs: Program[] = [];
afterEach(async () => {
  for (const { child, ended } of programs.splice(0)) {
    child.kill("SIGTERM");
    await ended;
  }
  await waitFor("the release of all GPUs", async () => {
    const { gpus } = await pool.client.call("listGpus", {});
    return gpus.every((gpu) => gpu.wholeFree) ? true : undefined;
  });
});

/** A session that somebody has until the end of the test. */
async function hold(...options: string[]): Promise<Program> {
  const program = pool.start(["run", "-v", ...options, "--", "sh", "-c", "echo granted; exec sleep 300"]);
  programs.push(program);
  await waitFor("the grant", () => {
    if (program.child.exitCode !== null) throw new Error(program.stderr());
    return program.stdout().includes("granted") ? true : undefined;
  });
  return program;
}

/** A session that has to wait, once it has said the text. */
async function wait(text: string, ...options: string[]): Promise<Program> {
  const program = pool.start(["run", "-v", ...options, "--", "echo", "granted"]);
  programs.push(program);
  await waitFor(`'${text}'`, () => {
    if (program.child.exitCode !== null) throw new Error(program.stderr());
    return program.stderr().includes(text) ? true : undefined;
  });
  return program;
}

const runOnce = (...options: string[]) => pool.farpool(["run", "-v", ...options, "--", "echo", "granted"]);
const ON_LARGE = ["--filter", "server.name=gpu-02"];

describe("filters", () => {
  test.each([
    ["gpu.memory>=40GiB", "1 × Fake GPU 40, gpu-02"],
    ["device.phy-memory<=40000", "Fake GPU"],
    ["gpu.name=*16", "1 × Fake GPU 16, gpu-03"],
    ["server.hostname=GPU-03", "1 × Fake GPU 16, gpu-03"],
  ])("%s", async (filter, granted) => {
    expect(await runOnce("--filter", filter)).toMatchObject({
      status: 0,
      stderr: expect.stringContaining(granted),
    });
  });

  test("several must all hold; what nothing has is refused by name", async () => {
    const both = ["--filter", "gpu.memory>=16GiB", "--filter", "gpu.memory<40GiB"];
    expect((await runOnce(...both)).stderr).toContain("gpu-03");
    expect(await runOnce("--filter", "gpu.memory>=41GiB")).toMatchObject({
      status: 69,
      stderr: expect.stringContaining("farpool: no GPU of the pool has gpu.memory>=41GiB"),
    });
    expect(await runOnce("-n", "3", "--filter", "gpu.memory>=40GiB")).toMatchObject({
      status: 69,
      stderr: expect.stringContaining("can ever grant is 2 × Fake GPU 40"),
    });
  });
});

test("all GPUs come from one server; what several do not have together is refused", async () => {
  expect((await runOnce("-n", "4")).stderr).toContain("4 × Fake GPU 16, gpu-03");
  expect(await runOnce("-n", "5")).toMatchObject({ status: 69 });
  expect(await runOnce("-n", "6", "--spread-servers", "--filter", "server.name=gpu-03")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining(
      "farpool: 6 GPUs (server.name=gpu-03): the largest session of this size that the pool can ever grant is 4 × Fake GPU 16\n",
    ),
  });
});

test("a priority above the normal one is not for everybody", async () => {
  expect(await runOnce("--priority", "51")).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      "farpool: policy 'highest priority': asked for 51, allowed: 50 (nobody has set it)",
    ),
  });
  expect(await runOnce("--priority", "0")).toMatchObject({ status: 0 });
});

test("who waits is told position, time and reason, and 'queue' shows it to all", async () => {
  const first = await hold("-n", "2", ...ON_LARGE, "--max-duration", "12m");
  await wait(
    "waiting for 1 GPU to become free (position 1, about 12 min",
    ...ON_LARGE,
    "--max-duration",
    "5m",
  );
  await wait(
    "waiting for 1 GPU, after 1 before it (position 2, about 12 min",
    ...ON_LARGE,
    "--priority",
    "40",
  );
  const { stdout, status } = await pool.farpool(["queue"]);
  expect(status).toBe(0);
  const [header, one, two, empty, , share] = stdout.split("\n");
  expect(header).toMatch(/^POSITION +SESSION +USER +WANTS +PRIORITY +WAITS +GRANTED IN +WAITS FOR$/);
  expect(one).toMatch(
    /^1 +s-\w{8} +\S+@\S+ +1 GPU, server.name=gpu-02 +50 +\d.* s +about 12 min +1 GPU to become free$/,
  );
  expect(two).toMatch(/^2 .* 40 .* about 12 min +1 GPU, after 1 before it$/);
  expect(empty).toBe("");
  expect(share).toMatch(/^\S+@\S+ +2 +2 +\d+\.\d\d$/);
  expect(stdout).toContain("half is forgotten after 1 h;");
  const json: unknown = JSON.parse((await pool.farpool(["queue", "--json"])).stdout);
  expect(json).toMatchObject({
    entries: [
      {
        session: {
          priority: 50,
          maxDurationMs: 300_000,
          queue: { position: 1, estimatedAt: expect.any(String) },
        },
      },
      { session: { priority: 40, filters: ["server.name=gpu-02"], queue: { position: 2 } } },
    ],
    users: [{ heldGpus: 2, waiting: 2 }],
  });
  first.child.kill("SIGTERM");
  for (const program of programs.splice(1))
    expect(await program.ended).toMatchObject({ stdout: "granted\n" });
  expect(await pool.farpool(["queue"])).toMatchObject({ stdout: "nobody waits\n" });
});

test("GPUs are kept for a large session that waits; only who is gone in time goes before it", async () => {
  const holder = await hold(...ON_LARGE, "--max-duration", "10m");
  const large = await wait("2 GPUs to become free on gpu-02, kept for it", "-n", "2", ...ON_LARGE);
  const small = await wait("what is free is kept for s-", ...ON_LARGE);
  expect(await runOnce(...ON_LARGE, "--max-duration", "11m", "--wait", "0")).toMatchObject({ status: 75 });
  expect(await runOnce(...ON_LARGE, "--max-duration", "9m", "--wait", "0")).toMatchObject({
    status: 0,
    stdout: "granted\n",
  });
  holder.child.kill("SIGTERM");
  expect(await large.ended).toMatchObject({ status: 0, stdout: "granted\n" });
  expect(await small.ended).toMatchObject({ status: 0, stdout: "granted\n" });
});

test("a server that goes is waited for, and its name is said", async () => {
  const server = servers.shift();
  await server?.stop();
  const waiting = await wait("1 GPU: the server gpu-02 does not answer", ...ON_LARGE);
  expect(waiting.stdout()).toBe("");
});

test.each([
  [["--filter", "gpu.memory"], "--filter takes KEY OPERATOR VALUE, not 'gpu.memory'"],
  [["--filter", "gpu.colour=red"], "--filter: there is no 'gpu.colour' to filter by"],
  [["--priority", "101"], "--priority takes a whole number from 0 to 100, not '101'"],
  [["--max-duration", "0"], "--max-duration takes from 1 ms to 3650 days, not '0'"],
])("run %j is wrong usage", async (options, sentence) => {
  const ended = await runOnce(...options);
  expect(ended).toMatchObject({ status: 64, stdout: "" });
  expect(ended.stderr).toContain(sentence);
});

import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

const ca = (...words: string[]) => pool.farpool(["admin", "ca", ...words]);

test("an administrator changes the authority in two steps, and status and health say where it stands", async () => {
  const machine = pool.on("ws-17");
  const { stdout: string } = await pool.farpool(["admin", "tokens", "create", "--client"]);
  await machine.farpool(["join", string.trim(), "--name", "ws-17"]);
  expect((await ca("status")).stdout).toMatch(
    /^authority {2}\S{43} {2}signs what managers and workers show\n[^]*rotation {3}none is under way\n$/,
  );
  expect(await ca("finish")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("there is no new authority that could take over"),
  });
  expect(await ca("rotate")).toMatchObject({
    status: 0,
    stderr: expect.stringContaining("0 of 1 machine trust the new authority, not yet client ws-17"),
  });
  expect((await ca()).stdout.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(await ca("finish")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("1 of 1 machine(s) do not know it yet (client ws-17)"),
  });
  // The first command hears of it, the second renews.
  for (let command = 0; command < 2; command += 1)
    expect(await machine.farpool(["whoami"])).toMatchObject({ status: 0 });
  expect((await pool.farpool(["status"])).stdout).toMatch(/^authority spreading since .*: 1 of 1 machine/m);
  expect(await ca("finish")).toMatchObject({ status: 0 });
  expect((await pool.farpool(["health"])).stdout).toMatch(
    /ok +rotation +the new authority took over at .*; the old one is trusted for 1 d/,
  );
  expect(await machine.farpool(["status"])).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^expires {3}/m),
  });
  expect((await pool.farpool(["status", "--json"])).stdout).toContain('"the pool\'s certificate authority"');
});

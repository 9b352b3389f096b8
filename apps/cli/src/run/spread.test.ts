import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GIB, waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { addServer } from "../testing/server.ts";
import { askBroker, connectAsShim } from "../testing/shim.ts";

/** This machine's server has two GPUs, the other one another. */
let pool: TestPool;
let other: { stop(): Promise<void> };
beforeAll(async () => {
  pool = await startTestPool();
  const gpu = { uuid: "GPU-gpu-02-0", name: "Fake GPU", memoryTotalBytes: 8 * GIB };
  other = await addServer(pool, "gpu-02", [gpu]);
});
afterAll(async () => {
  await other.stop();
  const { status } = await pool.stop();
  if (status !== 0) throw new Error(`up ended with ${status}`);
});

const KEY = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" });
const hello = (server: number): string =>
  `farpool-broker 2\npid ${process.pid}\nprogram test\nkey ${KEY.toString("base64url")}\nserver ${server}\n\n`;

test("a program on two servers has a worker on each, is one program, and both servers are shown", async () => {
  const summary = join(pool.folder, "summary.json");
  const go = join(pool.folder, "go");
  const run = pool.start([
    ...["run", "-v", "-n", "3", "--spread-servers", "--summary", summary, "--"],
    ...["sh", "-c", `echo SESSION=$FARPOOL_SESSION; until [ -e ${go} ]; do sleep 0.05; done`],
  ]);
  const path = await waitFor("the broker's path", () => /SESSION=(\S+)/.exec(run.stdout())?.[1]);
  const { sessions } = await pool.client.call("listSessions", { query: {} });
  const names = [sessions[0]?.serverName, ...(sessions[0]?.furtherServers ?? []).map(({ name }) => name)];
  expect(names).toHaveLength(2);
  const shims = [];
  for (const server of [0, 1]) shims.push(await connectAsShim(await askBroker(path, hello(server))));
  await waitFor("used memory on both servers", async () => {
    const { gpus } = await pool.client.call("listGpus", {});
    const used = gpus.filter((gpu) => gpu.sessions.some((session) => session.memoryUsedBytes > 0));
    return new Set(used.map(({ serverId }) => serverId)).size === 2 ? true : undefined;
  });
  expect((await pool.farpool(["sessions"])).stdout).toContain(` ${names.join(", ")} `);

  for (const shim of shims) shim.end();
  writeFileSync(go, "");

  const { status, stderr } = await run.ended;
  expect(status).toBe(0);
  expect(stderr).toContain(`3 × Fake GPU, ${names.join(", ")}, session `);
  expect(stderr).toContain("\n1 process, 200 calls (20 round trips, 100 answered locally)");
  expect(JSON.parse(readFileSync(summary, "utf8"))).toMatchObject({
    ...{ server: names.join(", "), gpu: "3 × Fake GPU", processes: 1, calls: 200 },
  });
});

import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

test("a second pool on the same state is refused, also when its sockets would lie elsewhere", async () => {
  const { pid } = await pool.client.call("status", {});
  const words = ["up", "--simulated", "--port", "0", "--data-port", "0"];
  const other = join(pool.folder, "other");
  const second = await pool.farpool(words, { FARPOOL_RUNTIME: other });
  expect(second).toMatchObject({
    status: 75,
    stderr: expect.stringMatching(/already running: pid \d+, .*, sockets in .*\nhint: FARPOOL_RUNTIME=/),
  });
  const third = await pool.farpool(words, {
    FARPOOL_STATE: other,
    FARPOOL_RUNTIME: join(pool.folder, "state/run"),
  });
  expect(third.status).toBe(75);
  expect((await pool.client.call("status", {})).pid).toBe(pid);
});

test("the workers have a certificate of the pool's authority, for their owner only", async () => {
  const file = join(pool.folder, "state/worker-identity.pem");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const text = readFileSync(file, "utf8");
  const leaf = new X509Certificate(text);
  const { servers } = await pool.client.call("listServers", {});
  expect(leaf.subjectAltName).toBe(`DNS:${servers[0]?.id}.servers.farpool.internal`);
  expect(leaf.checkPrivateKey(createPrivateKey(text.slice(text.indexOf("-----BEGIN PRIVATE"))))).toBe(true);
});

test("a database that dies comes back with its manager", async () => {
  const before = await pool.client.call("status", {});
  const pidFile = join(pool.folder, "state/postgres/data/postmaster.pid");
  process.kill(Number(readFileSync(pidFile, "utf8").split("\n")[0]), "SIGKILL");
  const after = await waitFor(
    "another manager",
    async () => {
      const now = await pool.client.call("status", {}, { timeoutMs: 1_000 }).catch(() => undefined);
      return now === undefined || now.pid === before.pid ? undefined : now;
    },
    20_000,
  );
  expect(after.gpus.total).toBe(2);
});

test("folders that cannot be used are named before anything is started", async () => {
  const file = join(pool.folder, "a-file");
  writeFileSync(file, "");
  const inFile = await pool.farpool(["up", "--simulated", "--state", join(file, "state")]);
  expect(inFile).toMatchObject({
    status: 69,
    stderr: expect.stringMatching(/^farpool: the folder .* cannot be made \(ENOTDIR\)\nhint: --state /),
  });
  const long = join(pool.folder, "x".repeat(120));
  const tooLong = await pool.farpool(["up", "--simulated", "--state", long]);
  expect(tooLong).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("sockets have 107 at most"),
  });
});

test("a program whose pool is stopped under it keeps its exit code", async () => {
  const other = await startTestPool();
  const go = join(other.folder, "go-on");
  const script = `echo ready; until [ -e ${go} ]; do sleep 0.05; done; exit 4`;
  const run = other.start([
    "run",
    "-v",
    "--summary",
    join(other.folder, "summary"),
    "--",
    "sh",
    "-c",
    script,
  ]);
  await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
  expect(await other.farpool(["down"])).toMatchObject({ status: 0 });
  writeFileSync(go, "");
  expect(await run.ended).toMatchObject({
    status: 4,
    stderr: expect.stringContaining("no summary was written: the pool does not answer"),
  });
  await other.stop();
});

import { join } from "node:path";
import { waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import type { Section } from "./health.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

interface Report {
  readonly result: string;
  readonly sections: readonly Section[];
}

async function report(): Promise<Report> {
  const { stdout } = await pool.farpool(["health", "--json"]);
  return JSON.parse(stdout) as Report;
}

test("health tells of the pool, each server and this machine", async () => {
  const page = await pool.farpool(["health"]);
  // That all is well a pool of real parts says (tests/e2e/up.test.ts): a fake acceptor has no data port.
  expect(page.stderr).toBe("");
  const { sections } = await report();
  expect(sections.map(({ title }) => title)).toEqual([
    "pool",
    "certificates",
    expect.stringMatching(/^server /),
    "this machine",
  ]);
  const names = sections.flatMap(({ checks }) => checks.map(({ name }) => name));
  for (const name of [
    ...[
      "manager",
      "database",
      "servers",
      "driver",
      "queue",
      "state",
      "version",
      "clock",
      "MTU",
      "open files",
    ],
    ...["disk", "certificate", "data port", "GPU 0", "GPU 1", "client", "authority"],
  ]) {
    expect(names).toContain(name);
    expect(page.stdout).toContain(name);
  }
  expect(page.stdout).toMatch(/\d+ checks: \d+ failures?, \d+ warnings?\n$/);
});

test("a client that was revoked is a failure, with when and why, in health and status", async () => {
  const run = await pool.farpool(["run", "-p", "0.1", "--", "true"]);
  expect(run.status).toBe(0);
  const { clients } = await pool.client.call("listClients", {});
  const [own] = clients;
  if (own === undefined) throw new Error("there is no client");
  expect((await pool.farpool(["status"])).stdout).toContain(`key ${own.thumbprint}`);
  const params = { thumbprint: own.thumbprint };
  await pool.client.call("revokeClient", { params, body: { reason: "lost laptop" } });
  const { sections } = await report();
  const client = sections.flatMap(({ checks }) => checks).find(({ name }) => name === "client");
  expect(client).toMatchObject({ result: "fail", message: expect.stringContaining("lost laptop") });
  expect((await pool.farpool(["health"])).status).toBe(69);
  expect((await pool.farpool(["status"])).stdout).toMatch(/^you .* REVOKED at .*: lost laptop$/m);
});

test("without a pool health says so, and still looks at this machine", async () => {
  const nowhere = { FARPOOL_STATE: join(pool.folder, "nowhere") };
  const { status, stdout } = await pool.farpool(["health"], nowhere);
  expect(status).toBe(69);
  expect(stdout).toMatch(/^ {2}FAIL {5}manager {2}no pool runs here/m);
  expect(stdout).toContain("glibc");
});

test("status begins with this machine's sessions, and says why one waits", async () => {
  const other = await startTestPool();
  try {
    const holder = other.start(["run", "-n", "2", "--", "sleep", "60"]);
    await waitFor("the one that holds all", async () =>
      (await other.client.call("status", {})).sessions.running > 0 ? true : undefined,
    );
    const waiter = other.start(["run", "-n", "1", "--name", "later", "--", "true"]);
    await waitFor("the queue", async () =>
      (await other.client.call("status", {})).sessions.queued > 0 ? true : undefined,
    );
    const { stdout } = await other.farpool(["status"]);
    expect(stdout).toMatch(/^of this machine$/m);
    expect(stdout).toMatch(/^s-\w+ has waited .*, position 1; it waits for /m);
    const json = JSON.parse((await other.farpool(["status", "--json"])).stdout) as { mine: string[] };
    expect(json.mine).toHaveLength(2);
    for (const each of [waiter, holder]) {
      each.child.kill("SIGTERM");
      await each.ended;
    }
  } finally {
    await other.stop();
  }
});

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

const farpool = (...words: string[]) => pool.farpool(words);
const output = async (...words: string[]): Promise<string> => {
  const { status, stdout, stderr } = await farpool(...words);
  if (status !== 0) throw new Error(`${words.join(" ")}: ${stderr}`);
  return stdout;
};

test("what a run used is told by user, session and program, with its cost, as table, CSV, JSON and FOCUS", async () => {
  expect(await output("usage")).toBe("nothing was used\n");
  await output("admin", "prices", "settings", "--currency", "CHF", "--time-zone", "Europe/Zurich");
  expect((await farpool("admin", "prices", "set", "360000")).stderr).toMatch(
    /^a GPU of any model without a price of its own costs 360000\.00 CHF per hour, from \S+Z\n$/,
  );
  await output("run", "-n", "1", "--", "sleep", "1");
  const table = await output("usage");
  expect(table).toMatch(
    /^USER +SESSIONS +HELD +CHARGED +BUSY +COST CHF\n\S+@\S+ +1 +0\.00 .*\nin all +1 +0\.00/,
  );
  const report = JSON.parse(await output("usage", "--by", "session", "--json"));
  expect(report.rows).toHaveLength(1);
  const [row] = report.rows;
  // 100 CHF a second: the cost is the time.
  expect(row.chargedMs).toBeGreaterThan(900);
  expect(Math.abs(row.cost - row.chargedMs * 1_000)).toBeLessThanOrEqual(1);
  expect(await output("usage", "--by", "program", "--csv")).toMatch(
    /^program,about,sessions,held_gpu_seconds,charged_gpu_seconds,busy_gpu_seconds,cost,currency\r\nsleep,,1,[\d.]+,[\d.]+,0\.000,[\d.]+,CHF\n$/,
  );
  const focus = (await output("usage", "--focus")).split("\r\n");
  expect(focus[0]).toMatch(/^BilledCost,BillingAccountId,/);
  expect(focus.some((line) => line.includes(row.key) && line.includes("Fake GPU"))).toBe(true);
  await waitFor("its records", async () => {
    const { records } = await pool.client.call("usageRecords", { query: {} });
    return records.some(({ id }) => id !== null) ? true : undefined;
  });
  expect(
    (await farpool("admin", "usage", "correct", row.key, "--credit", "0.5", "--reason", "it was a test"))
      .stderr,
  ).toBe(`session ${row.key}: -0.50, it was a test\n`);
  const corrected = JSON.parse(await output("usage", "--by", "session", "--json"));
  expect(corrected.total.cost).toBe(row.cost - 5_000);
  expect(await farpool("admin", "prices", "settings", "--currency", "EUR")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("charges in CHF"),
  });
  expect(await output("admin", "prices")).toMatch(
    /^MODEL +CHF PER GPU HOUR +FROM +UNTIL\nall others +360000\.00 /,
  );
});

test("a budget that is spent refuses a run with what is spent of it", async () => {
  const user = JSON.parse(await output("usage", "--json")).rows[0].key;
  expect((await farpool("admin", "budgets", "set", "user", user, "0", "--action", "refuse")).status).toBe(0);
  expect(await output("admin", "budgets")).toMatch(/user +\S+@\S+ +[\d.]+ +0\.00 +refuse, now/);
  const refused = await farpool("run", "--", "true");
  expect(refused.status).toBe(77);
  expect(refused.stderr).toMatch(
    /the budget of the user \S+ for \d{4}-\d\d is spent: [\d.]+ of 0\.00 CHF; no new sessions until the month is over\nhint: an administrator/,
  );
  await farpool("admin", "budgets", "set", "user", user, "0");
  expect((await farpool("run", "-v", "--", "true")).stderr).toMatch(
    /1 × Fake GPU, \S+, session s-\w+; the budget of the user \S+ for \d{4}-\d\d is spent: [\d.]+ of 0\.00 CHF\n/,
  );
  await output("admin", "budgets", "remove", "user", user);
  expect((await farpool("run", "--", "true")).status).toBe(0);
});

test("a drained server takes no new sessions, runs on, and is empty in the end; its label stays", async () => {
  const [server] = (await pool.client.call("listServers", {})).servers;
  const name = server?.name ?? "";
  const run = pool.start(["run", "-n", "1", "--", "sh", "-c", "echo ready; sleep 67"]);
  await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
  const drain = pool.start(["admin", "servers", "drain", name, "--reason", "new fans", "--wait"]);
  await waitFor("the word", () => (drain.stderr().includes("1 session goes on") ? true : undefined));
  const waiting = pool.start(["run", "-v", "-n", "1", "--", "true"]);
  const reason = await waitFor("the reason", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    return sessions.find(({ queue }) => queue !== null)?.queue?.waitsFor;
  });
  expect(reason).toBe(`1 GPU: the server ${name} is drained: new fans`);
  expect(await farpool("admin", "servers", "drain", name, "--wait", "0.1s")).toMatchObject({ status: 75 });
  expect(run.child.exitCode).toBeNull();
  run.child.kill("SIGTERM");
  expect(await drain.ended).toMatchObject({ status: 0, stderr: expect.stringContaining("is empty") });
  await output("admin", "servers", "label", name, "zone=b", "rack=7");
  await output("admin", "servers", "label", name, "rack-");
  expect(await farpool("admin", "servers", "label", name, "Rack=7")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("the label Rack is not one: a label's name has small letters"),
  });
  expect(await output("admin", "servers")).toMatch(/drained.* zone=b\n/);
  expect((await farpool("admin", "servers", "undrain", name)).stderr).toBe(`the server ${name} is open\n`);
  expect((await waiting.ended).status).toBe(0);
});

test("a server in maintenance says until when and why, and serves again by itself", async () => {
  const name = (await pool.client.call("listServers", {})).servers[0]?.name ?? "";
  const plan = (length: string) =>
    farpool("admin", "servers", "maintenance", name, "--for", length, "--message", "new driver");
  expect((await plan("2h")).stderr).toMatch(/is in maintenance until \S+Z: new driver\n$/);
  const waiting = pool.start(["run", "-n", "1", "--", "true"]);
  const reason = await waitFor("the reason", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    return sessions.find(({ queue }) => queue !== null)?.queue?.waitsFor;
  });
  expect(reason).toMatch(/^1 GPU: the server \S+ is in maintenance until \S+ \S+ UTC: new driver$/);
  await plan("2s");
  expect((await waiting.ended).status).toBe(0);
  expect(await output("admin", "servers", "show", name)).toMatch(
    / open .*\n\nGPU +NAME .*\n0 +Fake GPU .* - +- /,
  );
  expect(await farpool("admin", "servers", "maintenance", name, "--for", "2h")).toMatchObject({ status: 64 });
});

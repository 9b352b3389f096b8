import { afterAll, beforeAll, expect, it } from "vitest";
import type { SessionDetail, UsageReport } from "@farpool/contract";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { processesMentioning } from "./kit/processes.ts";
import { waitFor } from "./kit/program.ts";

let pool: Pool;
beforeAll(async () => {
  pool = await startPool(2, {}, { words: ["--label", "zone=b", "--label", "rack=7"] });
});
afterAll(async () => {
  await pool.stop();
});

type Role = "acceptor" | "agent" | "manager";

function serviceProcess(role: Role): number | undefined {
  const pattern = role === "acceptor" ? /farpool-acceptor/ : new RegExp(`farpool\\.mjs internal ${role} `);
  return processesMentioning(pool.folder).find(({ command }) => pattern.test(command))?.pid;
}

async function kill(role: Role): Promise<void> {
  const victim = await waitFor(`the ${role}`, () => serviceProcess(role));
  process.kill(victim, "SIGKILL");
  await waitFor(`another ${role}`, () => {
    const now = serviceProcess(role);
    return now === undefined || now === victim ? undefined : now;
  });
  await waitFor("the manager's answer", () => pool.client.call("ready", {}).catch(() => undefined));
}

async function usage(by: string): Promise<UsageReport> {
  const { status, stdout, stderr } = await pool.farpool(["usage", "--by", by, "--json"]);
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

/** Ended, released, and with records of its own. */
function settled(id: SessionDetail["id"]): Promise<SessionDetail> {
  return waitFor(`the records of ${id}`, async () => {
    const detail = await pool.client.call("showSession", { params: { sessionId: id } });
    const { records } = await pool.client.call("usageRecords", { query: {} });
    const mine = records.filter(({ sessionId }) => sessionId === id);
    return mine.length > 0 && mine.every((record) => record.id !== null) ? detail : undefined;
  });
}

/** From the event log alone. */
function heldMs({ events, gpus }: SessionDetail): number {
  const at = (state: string): number => Date.parse(events.find((event) => event.state === state)?.at ?? "");
  return gpus.length * (at("ended") - at("granted"));
}

const SCRIPT = `${example("busy")} 200 16 20 & ${example("vector-add")} > /dev/null; ${example("vector-add")} > /dev/null; wait $!`;

it("usage adds up with the event log and with what workers counted, whoever was killed meanwhile", async () => {
  const run = pool.start(["run", "-n", "1", "--", "sh", "-c", SCRIPT]);
  await run.until("round 2\n");
  const { id } = await pool.sessionOf(run);
  for (const role of ["agent", "acceptor", "manager"] as const) await kill(role);
  expect((await run.ended).status).toBe(0);
  const session = await settled(id);
  expect(session.processes).toHaveLength(3);
  const busyMs = session.processes.reduce((sum, { report }) => sum + Math.round(report?.busyMs ?? 0), 0);
  expect(busyMs).toBeGreaterThan(0);
  const row = (await usage("session")).rows.find(({ key }) => key === id);
  expect(row).toMatchObject({ sessions: 1, heldMs: heldMs(session), busyMs });
  const processes = (await usage("process")).rows.filter(({ key }) => key?.startsWith(`${id}/`) === true);
  expect(processes.reduce((sum, each) => sum + each.busyMs, 0)).toBe(busyMs);
  expect(processes.reduce((sum, each) => sum + each.heldMs, 0)).toBe(heldMs(session));
  expect(processes.some(({ about }) => about?.startsWith("busy, ") === true)).toBe(true);
});

it("what processes counted that ended while the agent stood still, and died then, is told by the next one", async () => {
  const agent = await waitFor("the agent", () => serviceProcess("agent"));
  const run = pool.start(
    ["run", "-n", "1", "--", "sh", "-c", `${example("busy")} 20 16 20; echo done; read line`],
    {
      keepInput: true,
    },
  );
  await run.until("round 2\n");
  const { id } = await pool.sessionOf(run);
  process.kill(agent, "SIGSTOP");
  await run.until("done\n");
  process.kill(agent, "SIGKILL");
  run.child.stdin?.end("\n");
  expect((await run.ended).status).toBe(0);
  const { processes } = await settled(id);
  expect(processes).toMatchObject([{ exit: "code 0", report: { kernelLaunches: 20 } }]);
  const row = (await usage("session")).rows.find(({ key }) => key === id);
  expect(row?.busyMs).toBe(Math.round(processes[0]?.report?.busyMs ?? -1));
});

it("slices, several GPUs and sessions that never ran a program add up, too", async () => {
  const runs = [
    ["run", "-n", "2", "-p", "0.25", "--", example("vector-add")],
    ["run", "-n", "1", "-p", "0.5", "--", "sleep", "0.5"],
    ["run", "-n", "1", "-p", "0.5", "--", example("vector-add")],
    ["run", "-n", "1", "--", "true"],
  ];
  const results = await Promise.all(runs.map((words) => pool.farpool(words)));
  expect(results.map(({ status }) => status)).toEqual([0, 0, 0, 0]);
  const { sessions } = await pool.client.call("listSessions", { query: { ended: 100 } });
  const details = await Promise.all(sessions.map(({ id }) => settled(id)));
  const { rows, total } = await usage("session");
  expect(total.sessions).toBe(details.length);
  for (const detail of details) {
    const { heldMs: told } = rows.find(({ key }) => key === detail.id) ?? { heldMs: Number.NaN };
    const [gpu] = detail.gpus;
    const share =
      gpu?.memoryLimitBytes === null ? 1 : (gpu?.memoryLimitBytes ?? 0) / (gpu?.memoryTotalBytes ?? 1);
    // Each record is rounded to a millisecond.
    expect(Math.abs(told - heldMs(detail) * share)).toBeLessThanOrEqual(4);
  }
  for (const by of [
    "user",
    "gpu",
    "model",
    "server",
    "program",
    "day",
    "month",
    "client",
    "project",
    "process",
  ])
    expect((await usage(by)).total).toEqual(total);
});

it("a server is known by the labels that it was started with, and by those that it was given", async () => {
  const { servers } = await pool.client.call("listServers", {});
  const name = servers[0]?.name ?? "";
  expect((await pool.farpool(["admin", "servers", "label", name, "zone=c"])).status).toBe(0);
  await kill("agent");
  const { stdout } = await pool.farpool(["admin", "servers"]);
  expect(stdout).toMatch(/ rack=7 zone=c\n| zone=c rack=7\n/);
});

it("samples of a real worker arrive every ten seconds", async () => {
  const run = pool.start(["run", "-n", "1", "--", example("busy"), "1000000", "16", "20"]);
  await run.until("round 2\n");
  const { id } = await pool.sessionOf(run);
  const samples = await waitFor(
    "two samples",
    async () => {
      const answer = await pool.client.call("sessionSamples", { params: { sessionId: id }, query: {} });
      return answer.samples.length >= 2 ? answer.samples : undefined;
    },
    60_000,
  );
  for (const { at } of samples) expect(Date.parse(at) % 10_000).toBe(0);
  expect(samples.at(-1)?.busyMs).toBeGreaterThan(0);
  expect(samples.at(-1)?.memoryBytes).toBeGreaterThan(0);
  run.child.kill("SIGTERM");
  await run.ended;
  await pool.expectNothingHeld();
});

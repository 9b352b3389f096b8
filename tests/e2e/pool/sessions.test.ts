import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { SessionDetail } from "@farpool/contract";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Machine } from "../kit/machine.ts";
import { type Machines, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { waitFor } from "../kit/program.ts";
import { hold, json, sessionIn } from "../kit/sessions.ts";

// How sessions live and end, seen by those who have them: real programs over TLS, two managers.

let pool: Machines;
let ann: Machine;
let ben: Machine;
beforeAll(async () => {
  pool = await startMachines({
    database: "debian",
    servers: { "gpu-01": { gpus: 2, memory: "4GiB" } },
    clients: ["ws-1", "ws-2"],
  });
  [ann, ben] = [named(pool.clients, "ws-1"), named(pool.clients, "ws-2")];
});
afterEach(() => pool.expectNothingHeld());
afterAll(() => pool.stop());

const show = (id: string): Promise<SessionDetail> => json(pool.admin, "sessions", "show", id);
const ended = (id: string): Promise<SessionDetail> =>
  waitFor(`the end of ${id}`, async () => {
    const session = await show(id);
    return session.state === "ended" ? session : undefined;
  });

describe("a reserved session", () => {
  it("lives between the programs that are attached to it, and ends when it is released", async () => {
    const id = (await ann.output("reserve", "-n", "1", "--name", "desk", "--auto-release", "1h")).trim();
    const first = await ann.farpool(["attach", id, "--", example("vector-add")]);
    expect(first).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/), stderr: "" });
    const both = await Promise.all(
      [1, 2].map(() => ann.farpool(["attach", id, "--", example("busy"), "20", "16", "20"])),
    );
    expect(both.map(({ status }) => status)).toEqual([0, 0]);
    expect(await show(id)).toMatchObject({ state: "active", name: "desk", purpose: "reserve" });
    expect((await show(id)).processes).toHaveLength(3);
    const stranger = await ben.farpool(["attach", id, "--", "true"]);
    expect(stranger).toMatchObject({
      status: 77,
      stderr: expect.stringContaining(`the session ${id} is not the client ws-2's`),
    });
    // Under a program that is attached, too.
    const attached = ann.start(["attach", id, "--", example("busy"), "1000000", "16", "100"]);
    await attached.until("round 1\n");
    expect(await ann.farpool(["release", id])).toMatchObject({
      status: 0,
      stderr: expect.stringContaining(`session ${id} is released: held `),
    });
    const result = await attached.ended;
    expect(result.status).toBe(1);
    expect(result.stderr).toContain(`session ${id} has ended`);
    expect(await ann.farpool(["attach", id, "--", "true"])).toMatchObject({
      status: 69,
      stderr: expect.stringContaining(`session ${id} has ended: released`),
    });
  });

  it("keeps no process of who was attached: neither one that was killed nor one that goes on without the command", async () => {
    const id = (await ann.output("reserve", "-n", "1")).trim();
    const log = join(pool.folder, "left-behind.log");
    const script = `
${example("busy")} 1000000 64 20 > ${log}.1 2>&1 & killed=$!
${example("busy")} 1000000 64 20 > ${log}.2 2>&1 &
until grep -q "round 1" ${log}.1 && grep -q "round 1" ${log}.2; do sleep 0.05; done
kill -9 $killed`;
    expect(await ann.farpool(["attach", id, "--", "sh", "-c", script])).toMatchObject({ status: 0 });
    const processes = await waitFor("the end of both", async () => {
      const { processes: found } = await show(id);
      return found.length === 2 && found.every(({ endedAt }) => endedAt !== null) ? found : undefined;
    });
    expect(processes.map(({ program }) => program)).toEqual(["busy", "busy"]);
    await waitFor("an error in who was left", () => readFileSync(`${log}.2`, "utf8").includes("cudaError"));
    expect(await show(id)).toMatchObject({ state: "active" });
    await ann.output("release", id);
  });

  it("is released by itself when nothing was attached for so long", async () => {
    const id = (await ann.output("reserve", "--auto-release", "2s")).trim();
    const longer = await ann.farpool(["attach", id, "--", example("busy"), "8", "16", "500"]);
    expect(longer).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/) });
    expect(await ended(id)).toMatchObject({ endMessage: "nothing was attached to it for 2.0 s" });
  });
});

describe("an idle timeout", () => {
  it("spares who computes, also with pauses", async () => {
    const run = await ann.farpool(["run", "--idle-timeout", "4s", "--", example("busy"), "9", "64", "1000"]);
    expect(run).toMatchObject({ status: 0, stdout: expect.stringMatching(/PASSED\n$/), stderr: "" });
  });

  it("warns, and then ends who only holds memory; what it calls next says so", async () => {
    const run = ann.start(["run", "-v", "--idle-timeout", "5s", "--", example("busy"), "2", "256", "8000"]);
    await run.until("round 1\n");
    const id = sessionIn(run.stderr());
    const { status, stderr } = await run.ended;
    expect(status).toBe(1);
    expect(stderr).toMatch(
      new RegExp(
        `farpool: session ${id}: idle for \\d.* s: it ends in \\S+ s unless a program uses its GPUs\n` +
          `farpool: session ${id} has ended, its programs lose their GPUs: idle for \\S+ s: no kernel, copy or call of its programs \\(its idle timeout is 5\\.0 s\\)\n`,
      ),
    );
    expect(stderr).toContain("cudaErrorDevicesUnavailable");
    expect(await ended(id)).toMatchObject({ endReason: "idle" });
  });
});

it("a maximum duration is warned of, can be extended, and ends under the program", async () => {
  const run = ann.start(["run", "-v", "--max-duration", "6s", "--", example("busy"), "1000000", "16", "100"]);
  await run.until("round 1\n");
  const id = sessionIn(run.stderr());
  await run.until(`farpool: session ${id}: its maximum duration of 6.0 s is over in `);
  expect(await ann.farpool(["sessions", "extend", id, "3s"])).toMatchObject({
    status: 0,
    stderr: expect.stringContaining(`session ${id} may live 9.0 s, until `),
  });
  const stranger = await ben.farpool(["sessions", "extend", id, "1h"]);
  expect(stranger.status).toBe(77);
  const { status, stderr } = await run.ended;
  expect(status).toBe(1);
  expect(stderr).toContain(
    "has ended, its programs lose their GPUs: its maximum duration of 9.0 s is over\n",
  );
  const session = await ended(id);
  const heldMs = Date.parse(session.endedAt ?? "") - Date.parse(session.grantedAt ?? "");
  expect(heldMs).toBeGreaterThanOrEqual(9_000);
});

it("an administrator's message appears on the terminal of who has the session", async () => {
  const terminal = ann.onTerminal(["run", "--", "sh", "-c", `${example("busy")} 100 16 100 | tail -1`]);
  const id = await waitFor("the grant", () => /session (s-\w{8})/.exec(terminal.stdout())?.[1]);
  const told = await pool.managers[1].farpool(["sessions", "message", id, "gpu-01 restarts", "at noon"]);
  expect(told).toMatchObject({ status: 0 });
  await waitFor("the message", () =>
    terminal.stdout().includes(`farpool: message for session ${id}: gpu-01 restarts at noon\r\n`),
  );
  expect(await terminal.ended).toMatchObject({ status: 0, stdout: expect.stringContaining("PASSED") });
});

it("an administrator ends a session: the program gets an error, its user the reason", async () => {
  const held = await hold(ann, "-n", "2");
  expect(await ben.farpool(["sessions", "end", held.id])).toMatchObject({ status: 77 });
  await pool.admin.output("sessions", "end", held.id);
  const { status, stderr } = await held.run.ended;
  expect(status).toBe(1);
  expect(stderr).toContain(
    `session ${held.id} has ended, its programs lose their GPUs: ended by administrator`,
  );
});

it("name, project and labels of a session are shown", async () => {
  const options = ["--name", "train-7", "--project", "apollo", "--label", "stage=a", "--label", "rack=7"];
  const held = await hold(ann, ...options);
  expect(await pool.admin.output("sessions")).toMatch(
    new RegExp(`^${held.id} +train-7 +active +1 × .* root@ws-1 +busy `, "m"),
  );
  expect(await ann.output("sessions", "show", held.id)).toMatch(/^project apollo\nlabels rack=7 stage=a$/m);
  await held.end();
});

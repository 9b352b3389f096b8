import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { SessionDetail } from "@farpool/contract";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { processesMentioning } from "./kit/processes.ts";
import { type RunningProgram, waitFor } from "./kit/program.ts";

// Everything of a pool that is no program and no worker is killed while programs run, and none of them may notice.

const ROUNDS = 400;
const PROCESSES = 16;

let pool: Pool;
beforeAll(async () => {
  pool = await startPool();
});
afterAll(async () => {
  await pool.stop();
});

type Role = "acceptor" | "agent" | "manager";

/** The process of this pool with a role; `up` starts it again when it has died. */
function serviceProcess(role: Role): number | undefined {
  const pattern = role === "acceptor" ? /farpool-acceptor/ : new RegExp(`farpool\\.mjs internal ${role} `);
  return processesMentioning(pool.folder).find(({ command }) => pattern.test(command))?.pid;
}

async function kill(roles: readonly Role[]): Promise<void> {
  const victims = new Map<Role, number>();
  for (const role of roles) {
    const victim = await waitFor(`the ${role}`, () => serviceProcess(role));
    victims.set(role, victim);
  }
  for (const victim of victims.values()) process.kill(victim, "SIGKILL");
  for (const [role, victim] of victims) {
    await waitFor(`another ${role}`, () => {
      const now = serviceProcess(role);
      return now === undefined || now === victim ? undefined : now;
    });
  }
}

/** One process that computes all the time, and others of the same session that come and go. */
const SCRIPT = `
${example("busy")} ${ROUNDS} 16 20 & busy=$!
made=0
while [ $made -lt ${PROCESSES} ]; do
  ${example("vector-add")} > /dev/null || exit 3
  made=$((made + 1)); echo "process $made"
done
wait $busy`;

function startPrograms(transport: string): RunningProgram {
  return pool.start(["run", "-n", "1", "-m", "1024", "--", "sh", "-c", SCRIPT], {
    environment: { FARPOOL_TRANSPORT: transport },
  });
}

async function show(session: SessionDetail): Promise<SessionDetail> {
  return pool.client.call("showSession", { params: { sessionId: session.id } });
}

async function expectGood(run: RunningProgram, session: SessionDetail): Promise<void> {
  const result = await run.ended;
  expect(result).toMatchObject({ status: 0, stderr: "" });
  // Lines of the others stand between those of the one that computes all the time.
  const busyLines = result.stdout.split("\n").filter((line) => !line.startsWith("process "));
  expect(busyLines.join("\n")).toContain(`round ${ROUNDS}\nPASSED\n`);
  expect(result.stdout).toContain(`process ${PROCESSES}\n`);
  // What every process has used is known, whoever of the pool was dead when it ended.
  const processes = await waitFor("the reports of all processes", async () => {
    const found = (await show(session)).processes;
    return found.length > PROCESSES && found.every(({ endedAt }) => endedAt !== null) ? found : undefined;
  });
  expect(processes).toHaveLength(PROCESSES + 1);
  for (const one of processes) {
    expect(one).toMatchObject({
      program: expect.stringMatching(/busy|vector-add/),
      clientPid: expect.any(Number),
    });
    expect(one.report?.kernelLaunches).toBeGreaterThan(0);
  }
  const busy = processes.filter(({ program }) => program?.includes("busy"));
  expect(busy.map(({ report }) => report?.kernelLaunches)).toEqual([ROUNDS]);
}

describe.each(["tcp", "unix"])("programs over %s do not notice", (transport) => {
  const cases: readonly (readonly Role[])[] = [
    ["acceptor"],
    ["agent"],
    ["manager"],
    ["acceptor", "agent"],
    ["manager", "agent", "acceptor"],
  ];

  it("kill -9 of acceptor, agent and manager, one after the other and all at once", async () => {
    const run = startPrograms(transport);
    await run.until("process 1\n");
    const session = await pool.sessionOf(run);
    for (const roles of cases) await kill(roles);

    await expectGood(run, session);
    const next = await pool.farpool(["run", "-n", "1", "--", example("vector-add")]);
    expect(next).toMatchObject({ status: 0, stderr: "" });
    await pool.expectNothingHeld();
  });

  it("an acceptor that is killed again and again", async () => {
    const run = startPrograms(transport);
    await run.until("process 1\n");
    const session = await pool.sessionOf(run);
    const before = serviceProcess("acceptor");
    for (let time = 0; time < 4; time += 1) await kill(["acceptor"]);

    expect(serviceProcess("acceptor")).not.toBe(before);
    await expectGood(run, session);
    await pool.expectNothingHeld();
  });
});

describe("a session whose acceptor is killed", () => {
  it("ends with its program, and its GPU is free", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "1000000", "64"]);
    await run.until("round 2\n");
    await pool.sessionOf(run);
    await kill(["acceptor"]);
    run.child.kill("SIGTERM");

    expect((await run.ended).status).toBe(128 + 15);
    await pool.expectNothingHeld();
  });

  it("ends also when `farpool run` is killed while there is no acceptor", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("busy"), "1000000", "64"]);
    await run.until("round 2\n");
    await pool.sessionOf(run);
    const acceptor = await waitFor("the acceptor", () => serviceProcess("acceptor"));
    process.kill(acceptor, "SIGKILL");
    process.kill(run.pid, "SIGKILL");

    expect((await run.ended).status).toBe(128 + 9);
    await pool.expectNothingHeld();
  });
});

import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Session } from "@farpool/contract";
import type { Machine } from "../kit/machine.ts";
import { type ManagerMachine, type Machines, databases, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { processesMentioning } from "../kit/processes.ts";
import { type ProgramResult, waitFor } from "../kit/program.ts";
import { hold, json, queue } from "../kit/sessions.ts";

const PASSED = { status: 0, stdout: expect.stringMatching(/PASSED\n$/) } as const;

describe.each(databases)("two managers on the %s PostgreSQL", (database) => {
  let pool: Machines;
  let ann: Machine;
  let ben: Machine;
  beforeAll(async () => {
    pool = await startMachines({
      database,
      servers: { "gpu-01": { gpus: 2, memory: "4GiB" }, "gpu-02": { gpus: 1, memory: "4GiB" } },
      clients: ["ws-1", "ws-2"],
    });
    [ann, ben] = [named(pool.clients, "ws-1"), named(pool.clients, "ws-2")];
  });
  afterEach(() => pool.expectNothingHeld());
  afterAll(() => pool.stop());

  it("the database is what it says", async () => {
    const version = await pool.postgres?.version();
    expect(version ?? "PostgreSQL embedded").toMatch(
      database === "debian" ? /^PostgreSQL \d+.*Debian/ : /embedded/,
    );
    const status = await json<{ database: string }>(pool.managers[0], "status");
    expect(status.database).toBe(database === "debian" ? "external" : "embedded");
  });

  it("what is done at one is seen at the other", async () => {
    const held = await hold(ann, "-n", "2");
    for (const manager of pool.managers) {
      const { sessions } = await json<{ sessions: Session[] }>(manager, "sessions");
      expect(sessions).toMatchObject([{ id: held.id, state: "active", serverName: "gpu-01" }]);
    }
    await pool.managers[1].output("sessions", "end", held.id);
    expect((await held.run.ended).stderr).toContain("ended by administrator");
    const { sessions } = await json<{ sessions: Session[] }>(pool.managers[0], "sessions", "--ended", "1");
    expect(sessions).toMatchObject([{ id: held.id, state: "ended" }]);
  });

  it("kill -9 of one, again and again: who runs, waits and asks does not notice", async () => {
    const [, victim] = pool.managers;
    const long = ann.start(["run", "-n", "2", "--", example("busy"), "150", "16", "50"]);
    await long.until("round 1\n");
    const waiting = await queue(ben, "waiting for 2 GPUs", "-n", "2");
    const asked: Array<Promise<ProgramResult>> = [];
    for (let time = 0; time < 3; time += 1) {
      const before = await managerOf(victim);
      process.kill(before, "SIGKILL");
      for (const machine of [ann, ben])
        asked.push(
          machine.farpool(["run", "-n", "1", "--filter", "server.name=gpu-02", "--", example("vector-add")]),
        );
      await waitFor("the next manager", () =>
        managerOf(victim).then(
          (pid) => pid !== before,
          () => undefined,
        ),
      );
    }
    for (const result of await Promise.all(asked)) expect(result).toMatchObject({ ...PASSED, stderr: "" });
    expect(await long.ended).toMatchObject({ ...PASSED, stderr: "" });
    expect(await waiting.ended).toMatchObject(PASSED);
  });

  it("one that stays away, with its machine: the pool goes on, and takes it back", async () => {
    const [, victim] = pool.managers;
    const long = ann.start(["run", "-n", "2", "--", example("busy"), "100", "16", "50"]);
    await long.until("round 1\n");
    const waiting = await queue(ben, "waiting for 2 GPUs", "-n", "2");
    for (const { pid } of processesMentioning(victim.folder)) process.kill(pid, "SIGKILL");
    await victim.up.ended;
    for (const machine of [ann, ben])
      expect(
        await machine.farpool(["run", "--filter", "server.name=gpu-02", "--", example("vector-add")]),
      ).toMatchObject({ ...PASSED, stderr: "" });
    expect(await long.ended).toMatchObject({ ...PASSED, stderr: "" });
    expect(await waiting.ended).toMatchObject(PASSED);
    await waitFor(
      "the silence of its server",
      async () => (await json<{ servers: { silent: number } }>(pool.admin, "status")).servers.silent === 1,
    );
    const again = await pool.restart(victim);
    expect(await again.output("queue")).toBe("nobody waits\n");
    await waitFor(
      "its server",
      async () => (await json<{ servers: { silent: number } }>(pool.admin, "status")).servers.silent === 0,
    );
  });
});

async function managerOf({ folder }: ManagerMachine): Promise<number> {
  return waitFor(
    "the manager",
    () =>
      processesMentioning(folder).find(({ command }) => command.includes("farpool.mjs internal manager "))
        ?.pid,
  );
}

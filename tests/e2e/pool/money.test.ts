import type { Session, SessionDetail, UsageReport } from "@farpool/contract";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Machine } from "../kit/machine.ts";
import { type Machines, databases, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { shareOf, timesOf } from "../kit/ledger.ts";
import { waitFor } from "../kit/program.ts";
import { hold, json, queue } from "../kit/sessions.ts";

const PASSED = { status: 0, stdout: expect.stringMatching(/PASSED\n$/) } as const;
/** 100 CHF a second: a cost tells the time for which it is. */
const PRICE = "360000";

describe.each(databases)("on the %s PostgreSQL, with two managers", (database) => {
  let pool: Machines;
  let ann: Machine;
  let ben: Machine;
  beforeAll(async () => {
    pool = await startMachines({
      database,
      servers: {
        "gpu-01": { gpus: 2, memory: "4GiB" },
        "gpu-02": { gpus: 1, memory: "8GiB" },
      },
      clients: ["ws-1", "ws-2"],
    });
    [ann, ben] = [named(pool.clients, "ws-1"), named(pool.clients, "ws-2")];
    await pool.admin.output(
      "admin",
      "prices",
      "settings",
      "--currency",
      "CHF",
      "--time-zone",
      "Europe/Zurich",
    );
    await pool.admin.output("admin", "prices", "set", PRICE, "--model", "Farpool Simulated GPU 4GiB");
  });
  afterEach(() => pool.expectNothingHeld());
  afterAll(() => pool.stop());

  const report = (by: string): Promise<UsageReport> => json(pool.admin, "usage", "--by", by);
  const allSessions = async (): Promise<readonly SessionDetail[]> => {
    const { sessions } = await json<{ sessions: Session[] }>(pool.admin, "sessions", "--ended", "100");
    return Promise.all(sessions.map(({ id }) => json<SessionDetail>(pool.admin, "sessions", "show", id)));
  };

  it("usage by user, project, model and program is what the event log says, in every form", async () => {
    const program = example("busy");
    const results = await Promise.all([
      ann.farpool(["run", "-n", "2", "--project", "apollo", "--", program, "20", "16", "50"]),
      ben.farpool(["run", "-p", "0.5", "--filter", "server.name=gpu-02", "--", program, "20", "16", "50"]),
      ben.farpool(["run", "-p", "0.25", "--filter", "server.name=gpu-02", "--", example("vector-add")]),
    ]);
    for (const result of results) expect(result).toMatchObject(PASSED);
    const sessions = await allSessions();
    expect(sessions).toHaveLength(3);
    const sumOf = (wanted: (session: SessionDetail) => boolean): number =>
      sessions
        .filter(wanted)
        .reduce((sum, each) => sum + timesOf(each).heldMs * each.count * shareOf(each), 0);
    const byUser = await report("user");
    for (const user of ["ws-1", "ws-2"]) {
      const row = byUser.rows.find(({ key }) => key === `root@${user}`);
      // Each record is rounded to a millisecond.
      expect(Math.abs((row?.heldMs ?? 0) - sumOf(({ client }) => client.host === user))).toBeLessThanOrEqual(
        4,
      );
    }
    const [apollo] = (await report("project")).rows.filter(({ key }) => key === "apollo");
    expect(apollo?.sessions).toBe(1);
    expect(Math.abs((apollo?.cost ?? 0) - (apollo?.chargedMs ?? 0) * 1_000)).toBeLessThanOrEqual(2);
    const models = (await report("model")).rows;
    expect(models.find(({ key }) => key?.endsWith("8GiB"))).toMatchObject({ cost: 0, sessions: 2 });
    for (const by of ["client", "server", "gpu", "session", "program", "process", "day", "month"])
      expect((await report(by)).total).toEqual(byUser.total);
    const csv = await pool.admin.output("usage", "--by", "user", "--csv");
    expect(csv).toMatch(
      /^user,about,sessions,held_gpu_seconds,charged_gpu_seconds,busy_gpu_seconds,cost,currency\r\n/,
    );
    expect(csv.trimEnd().split("\r\n")).toHaveLength(1 + byUser.rows.length);
    const [header = "", ...records] = (await pool.managers[1].output("usage", "--focus"))
      .trimEnd()
      .split("\r\n");
    const [held, user] = ["ConsumedQuantity", "x_User"].map((column) => header.split(",").indexOf(column));
    const focusMs = (wanted: string): number =>
      records
        .map((line) => line.split(","))
        .filter((cells) => cells[user ?? -1] === wanted)
        .reduce((sum, cells) => sum + Number(cells[held ?? -1]) * 3_600_000, 0);
    for (const { key, heldMs } of byUser.rows) expect(Math.abs(focusMs(key ?? "") - heldMs)).toBeLessThan(20);
  });

  it("a price that changes meanwhile changes what comes after it", async () => {
    const held = await hold(ann, "--project", "prices", "--filter", "server.name=gpu-02");
    await pool.managers[1].output("admin", "prices", "set", PRICE, "--model", "Farpool Simulated GPU 8GiB");
    await waitFor("a second at that price", async () => {
      const [row] = (await report("project")).rows.filter(({ key }) => key === "prices");
      return (row?.cost ?? 0) > 1_000_000;
    });
    await held.end();
    const session = await json<SessionDetail>(pool.admin, "sessions", "show", held.id);
    const prices = JSON.parse(await pool.admin.output("admin", "prices", "--json")) as {
      prices: { model: string | null; fromAt: string }[];
    };
    const fromMs = Date.parse(
      prices.prices.find(({ model }) => model?.endsWith("8GiB") === true)?.fromAt ?? "",
    );
    const [row] = (await report("project")).rows.filter(({ key }) => key === "prices");
    expect(Math.abs((row?.cost ?? 0) - (timesOf(session).endedAt - fromMs) * 1_000)).toBeLessThanOrEqual(
      2_000,
    );
    const credit = ["admin", "usage", "correct", held.id, "--credit", "1", "--reason", "a test"];
    // Its records are written when its server has closed it.
    const credited = await waitFor("records to correct", async () => {
      const result = await pool.admin.farpool(credit);
      return result.stderr.includes("has no usage records to correct") ? undefined : result;
    });
    expect(credited).toMatchObject({ status: 0, stderr: `session ${held.id}: -1.00, a test\n` });
    const [corrected] = (await report("project")).rows.filter(({ key }) => key === "prices");
    expect(corrected?.cost).toBe((row?.cost ?? 0) - 10_000);
  });

  it("a budget that is spent warns, puts last, or refuses, and says what is spent of it", async () => {
    const set = (action: string) =>
      pool.admin.output("admin", "budgets", "set", "user", "root@ws-1", "1", "--action", action);
    await set("warn");
    const warned = await ann.farpool(["run", "-v", "--", "true"]);
    expect(warned.stderr).toMatch(
      /the budget of the user root@ws-1 for \d{4}-\d\d is spent: [\d.]+ of 1\.00 CHF\n/,
    );
    await set("queue-last");
    const holder = await hold(ben, "-n", "2");
    const last = await queue(ann, "waiting for", "-n", "2");
    const first = await queue(ben, "waiting for", "-n", "2", "--priority", "1");
    expect(await pool.admin.output("queue")).toMatch(/^1 .*root@ws-2 .*\n2 .*root@ws-1 /m);
    await holder.end();
    for (const run of [first, last]) expect(await run.ended).toMatchObject(PASSED);
    await set("refuse");
    expect(await ann.farpool(["run", "--", "true"])).toMatchObject({
      status: 77,
      stderr: expect.stringMatching(
        /the budget of the user root@ws-1 for \d{4}-\d\d is spent: [\d.]+ of 1\.00 CHF; no new sessions until the month is over\nhint: an administrator/,
      ),
    });
    expect(await ben.farpool(["run", "--", example("vector-add")])).toMatchObject(PASSED);
    await pool.admin.output("admin", "budgets", "remove", "user", "root@ws-1");
    expect(await ann.farpool(["run", "--", example("vector-add")])).toMatchObject(PASSED);
  });

  it("who has signed in sees her own usage, and only that", async () => {
    await pool.admin.output("admin", "users", "add", "alice");
    const link = (
      await pool.admin.output("admin", "login-link", "alice", "--url", `https://127.0.0.1:${pool.admin.port}`)
    ).trim();
    await ben.output("login", link);
    expect(await ben.farpool(["run", "--", example("vector-add")])).toMatchObject(PASSED);
    const own = await json<UsageReport>(ben, "usage");
    expect(own.rows.map(({ key }) => key)).toEqual(["alice"]);
    expect((await report("user")).rows.map(({ key }) => key)).toEqual(
      expect.arrayContaining(["alice", "root@ws-1"]),
    );
    await ben.output("logout");
  });
});

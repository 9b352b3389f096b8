import { cpSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Machine, createMachine } from "../kit/machine.ts";
import { type Machines, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { hold, queue, shown } from "../kit/sessions.ts";

// What administrators decide, and what users then meet: at one manager it is said, at either it holds.

const PASSED = { status: 0, stdout: expect.stringMatching(/PASSED\n$/) } as const;

let pool: Machines;
let ann: Machine;
let ben: Machine;
beforeAll(async () => {
  pool = await startMachines({
    database: "debian",
    servers: {
      "gpu-01": { gpus: 2, memory: "4GiB", words: ["--label", "zone=a"] },
      "gpu-02": { gpus: 2, memory: "4GiB", words: ["--label", "zone=b"] },
    },
    clients: ["ws-1", "ws-2"],
  });
  [ann, ben] = [named(pool.clients, "ws-1"), named(pool.clients, "ws-2")];
  // From its first session on the pool knows what a client's account is called.
  for (const client of [ann, ben]) await client.output("run", "--", "true");
});
afterEach(() => pool.expectNothingHeld());
afterAll(() => pool.stop());

const admin = (...words: string[]): Promise<string> => pool.admin.output("admin", ...words);
const runs = (machine: Machine, ...options: string[]) =>
  machine.farpool(["run", "-v", ...options, "--", example("vector-add")]);

describe("servers", () => {
  it("a drained one runs on with what it has, takes nothing new, and is empty in the end", async () => {
    const held = await hold(ann, "--filter", "server.name=gpu-01");
    const drain = pool.managers[1].start([
      "admin",
      "servers",
      "drain",
      "gpu-01",
      "--reason",
      "new fans",
      "--wait",
    ]);
    await drain.until("the server gpu-01 takes no new sessions; 1 session goes on");
    expect((await runs(ben, "-n", "2")).stderr).toContain(", gpu-02, session ");
    const waiting = await queue(
      ben,
      "the server gpu-01 is drained: new fans",
      "--filter",
      "server.name=gpu-01",
    );
    expect(await pool.admin.output("status")).toContain(
      "it waits for 1 GPU: the server gpu-01 is drained: new fans",
    );
    await held.end();
    expect(await drain.ended).toMatchObject({ status: 0, stderr: expect.stringContaining("is empty") });
    await admin("servers", "undrain", "gpu-01");
    expect(await waiting.ended).toMatchObject(PASSED);
  });

  it("one in maintenance says until when and why, and serves again by itself", async () => {
    await admin("servers", "maintenance", "gpu-02", "--for", "6s", "--message", "new driver");
    const waiting = await queue(ann, "is in maintenance until ", "--filter", "server.label.zone=b");
    expect(waiting.stderr()).toMatch(/the server gpu-02 is in maintenance until \S+ \S+ UTC: new driver/);
    expect(await admin("servers")).toMatch(/^gpu-02 +online +maintenance until \S+: new driver /m);
    expect(await waiting.ended).toMatchObject(PASSED);
    expect(await admin("servers", "show", "gpu-02")).toMatch(/^gpu-02 +online +open /m);
  });

  it("its labels decide who may have it: those it was started with, and those it was given", async () => {
    await admin("servers", "label", "gpu-02", "class=a100");
    await admin("policies", "set", "--client", "ws-1", "--servers", "class=a100");
    expect((await runs(ann)).stderr).toContain(", gpu-02, session ");
    const elsewhere = await runs(ann, "--filter", "server.name=gpu-01");
    expect(elsewhere).toMatchObject({
      status: 77,
      stderr: expect.stringContaining(
        "policy 'allowed servers': asked for 1 GPU, which no allowed server has, allowed: class=a100 (policy of client ws-1",
      ),
    });
    expect((await runs(ben, "--filter", "server.label.zone=a")).stderr).toContain(", gpu-01, session ");
    await admin("policies", "remove", "--client", "ws-1");
    await admin("servers", "label", "gpu-02", "class-");
  });
});

describe("policies", () => {
  it("every refusal names policy, value, origin, and who can change it; explain tells the same", async () => {
    await admin("policies", "set", "--pool", "--gpus", "1", "--hard");
    await admin(
      "policies",
      "set",
      "--user",
      "root@ws-1",
      "--gpus",
      "2",
      "--max-duration",
      "1h",
      "--wait",
      "10m",
    );
    const refused = async (sentence: string, ...options: string[]): Promise<void> => {
      const result = await runs(ann, ...options);
      expect(result).toMatchObject({ status: 77, stdout: "" });
      expect(result.stderr).toContain(`farpool: policy ${sentence}\n`);
      expect(result.stderr).toMatch(
        /^hint: an administrator of the pool, with 'farpool admin policies set --/m,
      );
    };
    await refused("'GPUs at once': asked for 2, allowed: 1 (policy of the pool, hard)", "-n", "2");
    await refused(
      "'maximum duration': asked for 2 h, allowed: 1 h (policy of user root@ws-1)",
      "--max-duration",
      "2h",
    );
    await refused(
      "'longest wait': asked for 1 h, allowed: 10 min (policy of user root@ws-1)",
      "--wait",
      "1h",
    );
    const explained = await admin("policies", "explain", "--user", "root@ws-1", "--client", "ws-1");
    expect(explained).toMatch(/^gpus +1 +policy of the pool, hard +an administrator of the pool, with /m);
    expect(explained).toContain("gpus 2 of user root@ws-1 does not hold: wider than a hard policy");
    const held = await hold(ann);
    await refused("'GPUs at once': asked for 1 beside 1 held already, allowed: 1 (policy of the pool, hard)");
    await held.end();
    const audit = await admin("audit", "--last", "20");
    expect(audit).toMatch(/policy-refused .*policy 'longest wait': asked for 1 h/);
    await admin("policies", "remove", "--pool");
    await admin("policies", "remove", "--user", "root@ws-1");
    expect(await runs(ann, "-n", "2")).toMatchObject(PASSED);
  });

  it("what nobody asked for comes from the policy: idle timeout, duration, wait", async () => {
    await admin(
      "policies",
      "set",
      "--client",
      "ws-2",
      "--idle-timeout",
      "30m",
      "--max-duration",
      "8h",
      "--wait",
      "0",
    );
    const held = await hold(ben, "-n", "2", "--filter", "server.name=gpu-01");
    expect(await ben.output("sessions", "show", held.id)).toMatch(
      /^ends 8 h after its grant, at \S+\nends when idle for 30 min/m,
    );
    expect((await runs(ben, "--filter", "server.name=gpu-01")).status).toBe(75);
    await held.end();
    await admin("policies", "remove", "--client", "ws-2");
  });
});

describe("a client that is for its service only", () => {
  it("gets nothing else, whoever asks there, and whoever has copied its key", async () => {
    const set = await admin("clients", "set", "ws-1", "-n", "1", "-p", "0.5", "--service-only");
    expect(set).toContain("other sessions: none, service only\n");
    const thief = createMachine(pool.folder, "thief", { FARPOOL_TRANSPORT: "tcp" });
    mkdirSync(join(thief.folder, "state"), { mode: 0o700 });
    for (const file of ["client-key.pem", "client-membership.json"])
      cpSync(join(ann.folder, "state", file), join(thief.folder, "state", file), {
        preserveTimestamps: true,
      });
    for (const words of [["run", "--", "true"], ["reserve"], ["run", "-p", "0.1", "--", "true"]])
      for (const machine of [ann, thief])
        expect(await machine.farpool(words)).toMatchObject({
          status: 77,
          stdout: "",
          stderr: expect.stringContaining(
            `farpool: policy 'service only': asked for a session that is not the client's service (${words[0]}), allowed: its service's (service specification of client ws-1)`,
          ),
        });
    expect(await runs(ben)).toMatchObject(PASSED);
    await admin("clients", "set", "ws-1", "--none");
    expect(await runs(ann)).toMatchObject(PASSED);
  });

  it("a client that is revoked loses its GPUs while its program runs, and gets none again", async () => {
    const lost = createMachine(pool.folder, "ws-lost", { FARPOOL_TRANSPORT: "tcp" });
    const url = `https://127.0.0.1:${pool.managers[1].port}`;
    await lost.output(
      "join",
      (await admin("tokens", "create", "--client", "--url", url)).trim(),
      "--name",
      "ws-lost",
    );
    const held = await hold(lost);
    await pool.managers[1].output("clients", "remove", "ws-lost", "--reason", "lost laptop");
    const { status, stderr } = await held.run.ended;
    expect(status).toBe(1);
    expect(stderr).toContain("has ended, its programs lose their GPUs");
    expect(await runs(lost)).toMatchObject({ status: 77, stderr: expect.stringContaining("lost laptop") });
    await shown(pool.admin, ["clients"], /^ws-lost +removed /m);
  });
});

import { readFileSync } from "node:fs";
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Machine } from "../kit/machine.ts";
import { type Machines, named, startMachines } from "../kit/machines.ts";
import { example } from "../kit/pool.ts";
import { processesMentioning } from "../kit/processes.ts";
import { waitFor } from "../kit/program.ts";
import { hold, json, queue, shown } from "../kit/sessions.ts";

interface Report {
  readonly result: string;
  readonly sections: ReadonlyArray<{
    readonly title: string;
    readonly checks: ReadonlyArray<{
      readonly name: string;
      readonly result: string;
      readonly message: string;
    }>;
  }>;
}

let pool: Machines;
let ann: Machine;
let ben: Machine;
beforeAll(async () => {
  pool = await startMachines({
    database: "debian",
    servers: {
      "gpu-01": { gpus: 2, memory: "4GiB", words: ["--metrics-port", "0"] },
      "gpu-02": { gpus: 1, memory: "8GiB" },
    },
    clients: ["ws-1", "ws-2"],
  });
  [ann, ben] = [named(pool.clients, "ws-1"), named(pool.clients, "ws-2")];
});
afterEach(() => pool.expectNothingHeld());
afterAll(() => pool.stop());

/** What another program gets, which trusts the pool's authority and shows nothing of itself. */
function get(port: number, path: string, authority?: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const place = { host: "127.0.0.1", port, path };
    const outgoing = authority === undefined ? requestHttp(place) : requestHttps({ ...place, ca: authority });
    outgoing.once("error", reject).once("response", (incoming) => {
      let body = "";
      incoming.setEncoding("utf8").on("data", (text: string) => (body += text));
      incoming.once("end", () => resolve({ status: incoming.statusCode ?? 0, body }));
    });
    outgoing.end();
  });
}

describe("what people look at", () => {
  it("status, gpus, smi, sessions and queue tell of programs on all servers, from each machine", async () => {
    const held = await hold(ann, "-n", "2", "--name", "train-7");
    const slice = await hold(ben, "-m", "2048", "--filter", "server.name=gpu-02");
    const waiting = await queue(ben, "waiting for 2 GPUs", "-n", "2");
    for (const machine of [pool.managers[0], pool.managers[1], ann, ben]) {
      await shown(machine, ["status"], /^servers +4 online$[\s\S]*^sessions +2 running, 1 queued$/m);
      expect(await machine.output("gpus")).toMatch(
        /^gpu-02 +0 +Farpool Simulated GPU 8GiB +8 GiB +6 GiB +1 +online +GPU-/m,
      );
      expect(await machine.output("sessions")).toMatch(
        new RegExp(`^${held.id} +train-7 +active +2 × .* gpu-01 +root@ws-1 +busy `, "m"),
      );
      expect(await machine.output("queue")).toMatch(/^1 +s-\w{8} +root@ws-2 +2 GPUs /m);
    }
    expect(await ben.output("status")).toMatch(
      /^machine +ws-2, a client; its certificate is good until .*\n[\s\S]*^of this machine\n[\s\S]*position 1; it waits for 2 GPUs/m,
    );
    await waitFor("used memory", async () => /busy +\d+ MiB \/ 2 GiB/.test(await pool.admin.output("smi")));
    for (const each of [held, slice]) await each.end();
    expect((await waiting.ended).status).toBe(0);
  });

  it("doctor finds nothing wrong on a client, and says which libcuda a program would load", async () => {
    const result = await ann.farpool(["doctor", "--", example("vector-add")]);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    expect(result.stdout).toContain("lib/shim/libcuda.so.1");
    expect(result.stdout).toMatch(/https:\/\/127\.0\.0\.1:\d+ answers: 4 servers online, 5 GPUs/);
  });
});

describe("health", () => {
  it("looks at managers, database, each server, each GPU and the way to them, from each machine", async () => {
    for (const machine of [pool.admin, ann]) {
      const result = await machine.farpool(["health", "--measure", "--json"]);
      expect(result).toMatchObject({ status: 0, stderr: "" });
      const { sections } = JSON.parse(result.stdout) as Report;
      expect(sections.map(({ title }) => title)).toEqual(
        expect.arrayContaining(["pool", "server gpu-01", "server gpu-02", "this machine"]),
      );
      const checks = sections.flatMap(({ checks: each }) => each);
      expect(checks.filter((check) => check.result === "fail")).toEqual([]);
      const names = checks.map(({ name }) => name);
      for (const name of [
        "manager",
        "database",
        "servers",
        "driver",
        "queue",
        "clock",
        "MTU",
        "open files",
        "disk",
        "certificate",
        "data port",
        "GPU 0",
        "throughput",
      ])
        expect(names).toContain(name);
    }
  });

  it("a server that is silent is a warning with what to do, a pool that does not answer a failure", async () => {
    const server = named(pool.servers, "gpu-02");
    const agent = processesMentioning(server.folder).find(({ command }) =>
      command.includes(" internal agent "),
    );
    if (agent === undefined) throw new Error("there is no agent");
    process.kill(agent.pid, "SIGSTOP");
    try {
      const check = await waitFor("the warning", async () => {
        const { sections } = JSON.parse((await pool.admin.farpool(["health", "--json"])).stdout) as Report;
        const own = sections.find(({ title }) => title === "server gpu-02")?.checks ?? [];
        return own.find(({ name, result }) => name === "state" && result === "warning");
      });
      expect(check.message).toMatch(/^silent: heard of [\d.]+ s ago, /);
      expect((await pool.admin.farpool(["health"])).stdout).toContain(
        "hint: look at the agent's and the acceptor's log on that server",
      );
      const waiting = await queue(ann, "the server gpu-02 does not answer", "--filter", "server.name=gpu-02");
      process.kill(agent.pid, "SIGCONT");
      expect((await waiting.ended).status).toBe(0);
    } finally {
      process.kill(agent.pid, "SIGCONT");
    }
    const nowhere = await ann.farpool(["health"], { environment: { FARPOOL_STATE: "/nonexistent" } });
    expect(nowhere.status).toBe(69);
  });
});

describe("what programs look at", () => {
  it("/healthz and /readyz answer at each manager without a token", async () => {
    const authority = await pool.admin.output("admin", "ca");
    for (const { port } of pool.managers)
      for (const path of ["/healthz", "/readyz"])
        expect(await get(port, path, authority)).toEqual({
          status: 200,
          body: expect.stringContaining("true"),
        });
    expect(await get(pool.admin.port, "/v1/sessions", authority)).toMatchObject({ status: 401 });
    expect(await get(pool.admin.port, "/docs", authority)).toMatchObject({ status: 200 });
  });

  it("metrics of each manager and of an agent tell what the pool does", async () => {
    const held = await hold(ann, "-n", "2");
    const waiting = await queue(ben, "waiting for 2 GPUs", "-n", "2");
    for (const { up } of pool.managers) {
      const port = Number(
        /^metrics +http:\/\/127\.0\.0\.1:(\d+)\/metrics \(manager\)/m.exec(up.stderr())?.[1],
      );
      const { status, body } = await get(port, "/metrics");
      expect(status).toBe(200);
      expect(body).toMatch(/^farpool_sessions\{.*state="active".*\} 1$/m);
      expect(body).toMatch(/^farpool_queue_gpus(\{.*\})? 2$/m);
      expect(body).toMatch(/^farpool_gpus\{.*state="whole".*\} 2$|^farpool_gpus\{.*state="held".*\} 2$/m);
      expect(body).not.toMatch(/ws-1|root/);
    }
    const { serving } = named(pool.servers, "gpu-01");
    const port = Number(/^metrics +http:\/\/127\.0\.0\.1:(\d+)\/metrics/m.exec(serving.stderr())?.[1]);
    await waitFor("a worker in the metrics", async () =>
      /^farpool_server_workers(\{.*\})? 1$/m.test((await get(port, "/metrics")).body),
    );
    await held.end();
    expect((await waiting.ended).status).toBe(0);
  });
});

it.each(["head-1", "gpu-01", "ws-1"])(
  "a support bundle of %s has logs, settings and health, and no secret",
  async (name) => {
    const machine = [...pool.managers, ...pool.servers.values(), ...pool.clients.values()].find(
      (each) => each.name === name,
    );
    if (machine === undefined) throw new Error(`there is no machine ${name}`);
    const held = await hold(ann);
    const { secret, grant } = await pool.admin.client.call("connectSession", {
      params: { sessionId: (await json<{ id: never }>(pool.admin, "sessions", "show", held.id)).id },
    });
    const token = (await pool.admin.output("admin", "tokens", "create", "--client")).trim();
    const link = (await pool.admin.output("admin", "login-link")).trim();
    const file = join(pool.folder, `${name}.tar.gz`);
    const environment = { FARPOOL_DATABASE: "postgres://farpool:hunter2hunter2@localhost/pool" };
    const made = await machine.farpool(["support-bundle", "-o", file], { environment });
    await held.end();
    expect(made).toMatchObject({ status: 0, stdout: "" });
    const archive = gunzipSync(readFileSync(file)).toString("latin1");
    const logs = name === "ws-1" ? [] : ["logs/agent.log"];
    for (const part of ["versions.json", "settings.json", "health.json", "pool.json", ...logs])
      expect(archive).toContain(`/${part}`);
    const secrets = [
      secret,
      grant.grant,
      token.slice(-43),
      link.slice(-43),
      "hunter2hunter2",
      "PRIVATE KEY",
      ...keysOf(machine),
    ];
    expect(secrets.filter((each) => archive.includes(each))).toEqual([]);
  },
);

/** The lines of the machine's private keys, and its token. */
function keysOf({ folder }: Machine): readonly string[] {
  const files = ["client-key.pem", "server-key.pem", "worker-identity.pem", "api-token"];
  const found = files.flatMap((file) => {
    try {
      const text = readFileSync(join(folder, "state", file), "utf8");
      const begin = text.indexOf("-----BEGIN PRIVATE KEY");
      return text
        .slice(Math.max(0, begin))
        .split("\n")
        .filter((line) => line.length >= 8 && !line.startsWith("-----"));
    } catch {
      // Not every machine has every one.
      return [];
    }
  });
  expect(found.length).toBeGreaterThan(0);
  return found;
}

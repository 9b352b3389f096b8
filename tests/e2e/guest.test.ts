import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import { library } from "../../scripts/repository.ts";
import { type Pool, example, runDirectly, startPool } from "./kit/pool.ts";
import { isAlive } from "./kit/processes.ts";
import {
  type ProgramOptions,
  type ProgramResult,
  type RunningProgram,
  execute,
  waitFor,
} from "./kit/program.ts";

// The library is a guest: a program with descriptors, signals, children, threads and libraries of its own behaves as
// without it.

let pool: Pool;
beforeAll(async () => {
  // How many descriptors a worker has in its sandbox only root can see.
  pool = await startPool(1, process.getuid?.() === 0 ? {} : { FARPOOL_WORKER_SANDBOX: "off" });
});
afterAll(async () => {
  await pool.stop();
});

function pooled(words: readonly string[], options?: ProgramOptions): Promise<ProgramResult> {
  return pool.farpool(["run", "-n", "1", "--", ...words], options);
}

/** The same words on the simulated GPU alone and through the pool: what the one says the other must say. */
async function bothWays(words: readonly string[]): Promise<{ direct: ProgramResult; result: ProgramResult }> {
  return { direct: await runDirectly(words), result: await pooled(words) };
}

function same(direct: ProgramResult, status = 0): Partial<ProgramResult> {
  return { status, stdout: direct.stdout, stderr: "" };
}

describe("descriptors", () => {
  const words = (mode: string): readonly string[] => [example("descriptors"), mode];

  it("60 of 64 in use: everything works and costs one more", async () => {
    const result = await pooled(words("nearly-all"));
    expect(result).toMatchObject({ status: 0, stdout: "new descriptors: 1\nPASSED\n", stderr: "" });
  });

  it("all in use: cuInit says so, and works once there is room", async () => {
    const result = await pooled(words("all"), { environment: { FARPOOL_LOG: "stderr" } });
    const refused = "cuInit: 304\n";
    expect(result).toMatchObject({ status: 0, stdout: `${refused.repeat(3)}PASSED\n` });
    expect(result.stderr).toMatch(
      /^farpool: this process has no descriptor left for the connection to its GPU server .*; hint: `ulimit -n` shows how many it may have$/m,
    );
  });

  it("files of the program on low numbers are left alone", async () => {
    const { direct, result } = await bothWays(words("taken"));
    expect(direct).toMatchObject({ status: 0, stdout: "PASSED\n" });
    expect(result).toMatchObject(same(direct));
  });

  it("all closed by the program: a lasting error, and its files stay clean", async () => {
    const result = await pooled(words("closed"));
    const round = ["synchronize", "malloc", "stream"]
      .map((call) => `${call}: cudaErrorDevicesUnavailable\n`)
      .join("");
    expect(result).toMatchObject({ status: 0, stdout: `${round}${round}PASSED\n`, stderr: "" });
    await pool.expectNothingHeld();
  });
});

describe("signals", () => {
  it("handlers, masks and timers are the program's, before, during and after", async () => {
    const { direct, result } = await bothWays([example("signals")]);
    expect(direct).toMatchObject({ status: 0, stdout: "PASSED\nuntouched at exit\n" });
    expect(result).toMatchObject(same(direct));
  });

  it("a server that goes away raises none", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("signals"), "lost"]);
    await run.until("working\n");
    process.kill(await workerOf(run), "SIGKILL");

    expect(await run.ended).toMatchObject({
      status: 0,
      stdout: "working\ncudaErrorDevicesUnavailable\nuntouched at exit\n",
      stderr: "",
    });
  });
});

describe("children", () => {
  it.each(["forks", "clones", "runs", "race"])("%s", async (mode) => {
    const { direct, result } = await bothWays([example("children"), mode]);
    expect(direct).toMatchObject({ status: 0, stdout: "PASSED\n" });
    expect(result).toMatchObject(same(direct));
    await pool.expectNothingHeld();
  });

  it("one that outlives its parent keeps nothing of it", async () => {
    const run = pool.start(["run", "-n", "1", "--", example("children"), "orphan"]);
    await run.until(" heir ");
    const [, client = 0, heir = 0] = (/client (\d+) heir (\d+)/.exec(run.stdout()) ?? []).map(Number);
    const worker = await workerOf(run);
    process.kill(client, "SIGKILL");

    await run.until("the client is dead\n");
    await waitFor("the end of the worker", () => !isAlive(worker) || undefined);
    expect(isAlive(heir)).toBe(true);
    run.child.kill("SIGTERM");
    await run.ended;
    await waitFor("the end of the heir", () => !isAlive(heir) || undefined);
    await pool.expectNothingHeld();
  });
});

describe("leaving", () => {
  it.each([
    ["return", 0],
    ["thread", 7],
    ["busy", 7],
    ["callback", 7],
    ["main-thread-ends", 7],
    ["pending", 7],
  ])("%s", async (mode, status) => {
    const { direct, result } = await bothWays([example("leaving"), mode]);
    expect(direct).toMatchObject({ status, stderr: "" });
    expect(result).toMatchObject(same(direct, status));
    await pool.expectNothingHeld();
  });
});

describe("libraries", () => {
  it.each([
    ["opened and closed again and again", "reload"],
    ["two runtimes in one process, both static", "two-runtimes"],
    ["two runtimes in one process, one of them shared", "two-runtimes-shared"],
    ["a libcrypto of the program's own", "own-crypto"],
  ])("%s", async (_title, name) => {
    const { direct, result } = await bothWays([example(name), example("second-runtime.so")]);
    expect(direct).toMatchObject({ status: 0, stdout: "PASSED\n" });
    expect(result).toMatchObject(same(direct));
  });

  it.each(["host-threads", "stream-overlap", "reset", "two-runtimes"])("jemalloc under %s", async (name) => {
    const words = [example(name), example("second-runtime.so")];
    const preload = `LD_PRELOAD=${jemalloc()}`;
    const plain = await pooled(words);
    const result = await pooled(["env", preload, "MALLOC_CONF=confirm_conf:true", ...words]);
    expect(result).toMatchObject({ status: 0, stdout: plain.stdout });
    // Its own word that it is there.
    expect(result.stderr).toContain("<jemalloc>");
  });

  it("no name but CUDA's is exported, and the one by which our own libraries know each other", () => {
    const names = spawnSync("nm", ["-D", "--defined-only", library.shim], { encoding: "utf8" });
    const exported = names.stdout.split("\n").filter((line) => line !== "");
    expect(exported.length).toBeGreaterThan(400);
    const others = exported.filter((line) => !/ T cu[A-Z]\w*$/.test(line));
    expect(others.map((line) => line.split(" ").slice(1).join(" "))).toEqual(["R farpool_shim"]);
  });
});

describe("what a program leaves behind", () => {
  it.each([
    ["a reset under pending work", "reset"],
    ["threads that end with a stream", "thread-streams"],
    ["10,000 streams and events", "many-objects"],
  ])("%s", async (_title, name) => {
    const { direct, result } = await bothWays([example(name), "1"]);
    expect(direct.stdout).toMatch(/PASSED\n$/);
    expect(result).toMatchObject(same(direct));
  });

  it.each(["thread-streams", "many-objects"])("nothing grows with the rounds of %s", async (name) => {
    const { result, sizes } = await stepwise([example(name), "5", "stepwise"], 5);
    expect(result).toMatchObject({ status: 0, stderr: "" });
    const [second, last] = [sizes[1], sizes[4]];
    expect(last).toMatchObject({ descriptors: second?.descriptors, threads: second?.threads });
    // Allocators breathe; three rounds of lost objects are six megabytes at least.
    const resident = sizes.map(({ residentKib }) => residentKib);
    const growth = Math.min(...resident.slice(3)) - Math.max(...resident.slice(0, 2));
    expect(growth).toBeLessThan(3072);
  });
});

describe("a server that accepts and says nothing", () => {
  it("ends in an error", async () => {
    const { broker } = await silentServer();
    const result = await runShim([example("vector-add")], {
      FARPOOL_SESSION: broker,
      FARPOOL_CONNECT_TIMEOUT: "200ms",
    });
    expect(result.stderr).toContain(
      "farpool: the GPU server accepted the connection and then said nothing for 0.2 s; hint: FARPOOL_CONNECT_TIMEOUT=60s waits longer\n",
    );
    expect(result.status).toBe(1);
  });

  it.each([
    ["FARPOOL_CONNECT_TIMEOUT", "soon", "expected a time above 0, like `30s` or `500ms`"],
    ["FARPOOL_TRANSPORT", "foo", "expected `tcp` or `unix`, or nothing for what is fastest"],
  ])("%s=%s is refused with what it may be", async (name, value, expected) => {
    const result = await pooled([example("vector-add")], {
      environment: { [name]: value, FARPOOL_LOG: "stderr" },
    });
    expect(result.status).toBe(1);
    expect(result.stderr).toContain(`farpool: ${name} is \`${value}\`; ${expected}\n`);
  });
});

/** The process on the server that serves the run's only client. */
async function workerOf(run: RunningProgram): Promise<number> {
  const session = await pool.sessionOf(run);
  return waitFor("the run's worker", async () => {
    const shown = await pool.client.call("showSession", { params: { sessionId: session.id } });
    return shown.processes.find((shownProcess) => shownProcess.clientPid !== null)?.workerPid;
  });
}

/** Runs a program that stops after each round, and looks at its worker meanwhile. */
async function stepwise(
  words: readonly string[],
  rounds: number,
): Promise<{ result: ProgramResult; sizes: readonly WorkerSize[] }> {
  const run = pool.start(["run", "-n", "1", "--", ...words], { keepInput: true });
  const sizes: WorkerSize[] = [];
  for (let round = 0; round < rounds; round++) {
    await run.until(`round ${round}\n`);
    sizes.push(await settledSize(await workerOf(run)));
    run.child.stdin?.write("\n");
  }
  run.child.stdin?.end();
  return { result: await run.ended, sizes };
}

interface WorkerSize {
  readonly descriptors: number;
  readonly threads: number;
  readonly residentKib: number;
}

/** The size of a worker once the threads that had something to do are gone. */
async function settledSize(pid: number): Promise<WorkerSize> {
  let before = -1;
  return waitFor("a worker at rest", async () => {
    const threads = readdirSync(`/proc/${pid}/task`).length;
    const rests = threads === before;
    before = threads;
    await new Promise((resolve) => setTimeout(resolve, 2500));
    if (!rests || readdirSync(`/proc/${pid}/task`).length !== threads) return undefined;
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const residentKib = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]);
    return { descriptors: readdirSync(`/proc/${pid}/fd`).length, threads, residentKib };
  });
}

function jemalloc(): string {
  const known = spawnSync("/sbin/ldconfig", ["-p"], { encoding: "utf8" }).stdout;
  const path = /libjemalloc\.so\.2 .*=> (\S+)/.exec(known)?.[1];
  if (path === undefined) throw new Error("libjemalloc.so.2 is not installed; `npm run setup` installs it");
  return path;
}

/** A program with the shim but without a pool. */
async function runShim(
  words: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<ProgramResult> {
  return execute(words, {
    environment: { LD_LIBRARY_PATH: join(library.shim, ".."), FARPOOL_LOG: "stderr", ...environment },
  });
}

/** A broker whose session's server takes connections and never answers. */
async function silentServer(): Promise<{ broker: string }> {
  const folder = join(pool.folder, "silent");
  mkdirSync(folder, { recursive: true });
  const [broker, server] = [join(folder, "broker.sock"), join(folder, "server.sock")];
  const answer = `ok\nsession silent\nconnection ${"00".repeat(16)}\ntoken ${"00".repeat(32)}\nendpoint unix ${server}\n\n`;
  const servers = [
    createServer((socket) => socket.on("error", () => undefined).end(answer)).listen(broker),
    createServer((socket) => socket.on("error", () => undefined).resume()).listen(server),
  ];
  await Promise.all(
    servers.map(
      (each) => new Promise((resolve) => (each.listening ? resolve(0) : each.once("listening", resolve))),
    ),
  );
  onTestFinished(() => {
    for (const each of servers) each.close();
  });
  return { broker };
}

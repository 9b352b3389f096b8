import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { readClaims } from "@farpool/identity/grants";
import { waitFor, type Program } from "@farpool/testkit";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { askBroker, connectAsShim } from "../testing/shim.ts";
import { descendants, isAlive, processInfo } from "./processes.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  const { status } = await pool.stop();
  if (status !== 0) throw new Error(`up ended with ${status}`);
});

async function nothingHeld(): Promise<void> {
  await waitFor("the release of all GPUs", async () => {
    const { gpus } = await pool.client.call("listGpus", {});
    return gpus.every((gpu) => gpu.wholeFree) ? true : undefined;
  });
}

const KEY = generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" });
const HELLO = `farpool-broker 2\npid ${process.pid}\nprogram test\nkey ${KEY.toString("base64url")}\n\n`;

const waitForFile = (file: string): string => `until [ -e ${file} ]; do sleep 0.05; done`;

async function sessionPath(run: Program): Promise<string> {
  return waitFor("the broker's path", () => /SESSION=(\S+)/.exec(run.stdout())?.[1]);
}

describe("a program that runs", () => {
  test("returns its exit code, and nothing of ours is on stdout or stderr", async () => {
    expect(
      await pool.farpool(["run", "-n", "1", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]),
    ).toEqual({
      status: 7,
      stdout: "out\n",
      stderr: "err\n",
    });
    expect((await pool.farpool(["run", "--", "sh", "-c", "kill -SEGV $$"])).status).toBe(128 + 11);
  });

  test("finds its broker and our libcuda.so.1 before others, without an empty element", async () => {
    const shim = join(pool.folder, "dist/lib/shim");
    const print = ["run", "--", "sh", "-c", "echo $LD_LIBRARY_PATH; test -S $FARPOOL_SESSION"];
    expect(await pool.farpool(print)).toMatchObject({ status: 0, stdout: `${shim}\n` });
    expect(await pool.farpool(print, { LD_LIBRARY_PATH: "/opt/x::/opt/y:" })).toMatchObject({
      stdout: `${shim}:/opt/x:/opt/y\n`,
    });
  });

  test("is told session, connection and endpoints; the summary counts what its worker reported", async () => {
    const summary = join(pool.folder, "summary.json");
    const go = join(pool.folder, "go");
    const run = pool.start([
      "run",
      "-p",
      "0.5",
      "--summary",
      summary,
      "--",
      "sh",
      "-c",
      `echo SESSION=$FARPOOL_SESSION; until [ -e ${go} ]; do sleep 0.05; done`,
    ]);
    const answer = await askBroker(await sessionPath(run), HELLO);
    expect(answer).toMatch(
      /^ok\nsession s-\w{8}\nconnection [0-9a-f]{32}\ntoken [0-9a-f]{64}\ngrant \S+\ntrust \S+\nserver \S+\ngrace 120\nendpoint unix \S+data\.sock\nendpoint tls 127\.0\.0\.1:\d+\n\n$/,
    );
    const shim = await connectAsShim(answer);
    await waitFor("used memory", async () => {
      const { gpus } = await pool.client.call("listGpus", {});
      return gpus.some((gpu) => gpu.sessions.some((session) => session.memoryUsedBytes > 0))
        ? true
        : undefined;
    });
    shim.end();
    writeFileSync(go, "");
    expect((await run.ended).status).toBe(0);
    expect(JSON.parse(readFileSync(summary, "utf8"))).toMatchObject({
      gpu: "½ × Fake GPU (4 GiB)",
      exitCode: 0,
      processes: 1,
      calls: 100,
      roundTrips: 10,
      localCalls: 50,
    });
    await nothingHeld();
  });

  test("is let in with a grant for the session and this machine's key", async () => {
    const go = join(pool.folder, "go-with-grant");
    const run = pool.start(["run", "--", "sh", "-c", `echo SESSION=$FARPOOL_SESSION; ${waitForFile(go)}`]);
    const path = await sessionPath(run);
    const answer = await askBroker(path, HELLO);
    const { session } = readClaims(/^grant (.*)$/m.exec(answer)?.[1] ?? "");
    const claims = readClaims(String(session));
    const { clients } = await pool.client.call("listClients", {});
    expect(clients).toMatchObject([{ name: hostname(), sessions: 1, revokedAt: null }]);
    expect(claims).toMatchObject({
      sub: /^session (.*)$/m.exec(answer)?.[1],
      aud: /^server (.*)$/m.exec(answer)?.[1],
      cnf: { jkt: clients[0]?.thumbprint },
    });
    writeFileSync(go, "");
    expect(await run.ended).toMatchObject({ status: 0 });
  });

  test("that never loads the shim gets a note with -v", async () => {
    const { stderr } = await pool.farpool(["run", "-v", "--", "true"]);
    expect(stderr).toContain("note: true ended after");
    expect(stderr).toMatch(/held \d+(\.\d)? s, GPU busy 0 %\n0 processes, 0 calls/);
    expect(stderr).toContain("hint: 'farpool doctor -- true' tells");
    const script = join(pool.folder, "for-nobody");
    writeFileSync(script, "#!/lib64/ld-linux-x86-64.so.2 --version\n", { mode: 0o755 });
    const { stderr: caused } = await pool.farpool(["run", "-v", "--", script]);
    expect(caused).toMatch(
      /hint: \/lib64\/ld-linux-x86-64.so.2 is statically linked: it loads no libraries; use/,
    );
  });

  test("inside a shell joins the session that is there, unless it asks for its own", async () => {
    const environment = { FARPOOL_SESSION: "/somewhere/broker.sock" };
    expect(await pool.farpool(["run", "--", "sh", "-c", "echo $FARPOOL_SESSION"], environment)).toMatchObject(
      { stdout: "/somewhere/broker.sock\n" },
    );
    expect(
      (await pool.farpool(["run", "--new", "--", "sh", "-c", "echo $FARPOOL_SESSION"], environment)).stdout,
    ).not.toContain("somewhere");
  });
});

describe("an end", () => {
  test("by TERM ends all descendants, also those that have left, and gives the GPUs back", async () => {
    const run = pool.start([
      "run",
      "--",
      "sh",
      "-c",
      "echo SESSION=$FARPOOL_SESSION; setsid sleep 61 & (setsid sleep 62 &) ; sleep 63",
    ]);
    const mark = `FARPOOL_SESSION=${await sessionPath(run)}`;
    const left = await waitFor("four processes", () => {
      const found = descendants(run.child.pid ?? 0, mark).filter(({ pid }) => pid !== run.child.pid);
      return found.length >= 4 ? found : undefined;
    });
    run.child.kill("SIGTERM");
    expect((await run.ended).status).toBe(128 + 15);
    expect(left.filter(isAlive)).toEqual([]);
    await nothingHeld();
  });

  test("by an administrator is said, and new processes are told", async () => {
    const run = pool.start(["run", "--", "sh", "-c", "echo SESSION=$FARPOOL_SESSION; sleep 64"]);
    const path = await sessionPath(run);
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    const [session] = sessions;
    if (session === undefined) throw new Error("there is no session");
    expect(await pool.farpool(["sessions", "end", session.id])).toMatchObject({ status: 0 });
    await waitFor("our sentence", () => (run.stderr().includes("ended by administrator") ? true : undefined));
    expect(await askBroker(path, HELLO)).toMatch(
      /^error 69 CUDA_ERROR_DEVICE_UNAVAILABLE session \S+ has ended/,
    );
    run.child.kill("SIGTERM");
    await run.ended;
  });

  test("by kill -9 of run frees the GPUs in seconds", async () => {
    const run = pool.start([
      "run",
      "-n",
      "2",
      "--",
      "sh",
      "-c",
      "echo SESSION=$FARPOOL_SESSION; exec sleep 10",
    ]);
    const mark = `FARPOOL_SESSION=${await sessionPath(run)}`;
    const orphans = descendants(run.child.pid ?? 0, mark).filter(({ pid }) => pid !== run.child.pid);
    run.child.kill("SIGKILL");
    const startedAt = Date.now();
    await nothingHeld();
    expect(Date.now() - startedAt).toBeLessThan(7_000);
    for (const { pid } of orphans) process.kill(pid, "SIGKILL");
  });
});

describe("on a terminal", () => {
  test("Ctrl-C reaches the program once, and what it does then is its own affair", async () => {
    const script = "trap 'echo interrupted' INT; echo ready; sleep 1; echo going on; sleep 1; exit 3";
    const run = pool.startOnTerminal(["run", "--", "sh", "-c", script]);
    await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
    run.type("\x03");
    const { status, stdout } = await run.ended;
    expect(status).toBe(3);
    expect(stdout.match(/interrupted/g)).toHaveLength(1);
    expect(stdout).toMatch(/1 × Fake GPU, \S+, session s-/);
    expect(stdout).toMatch(/held \d\.\d s, GPU busy 0 %/);
  });

  test("Ctrl-C ends a program that does nothing about it, with 130", async () => {
    const run = pool.startOnTerminal(["run", "--", "sh", "-c", "echo ready; exec sleep 66"]);
    await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
    run.type("\x03");
    expect((await run.ended).status).toBe(130);
    await nothingHeld();
  });
});

describe("waiting", () => {
  test("for GPUs ends with 75 when the time is over, and at once with --wait 0", async () => {
    const holder = pool.start([
      "run",
      "-n",
      "2",
      "--",
      "sh",
      "-c",
      "echo SESSION=$FARPOOL_SESSION; sleep 65",
    ]);
    await sessionPath(holder);
    expect(await pool.farpool(["run", "--wait", "0", "--", "true"])).toMatchObject({ status: 75 });
    expect(await pool.farpool(["run", "--wait", "0.5s", "--", "true"])).toMatchObject({
      status: 75,
      stderr: expect.stringContaining("waited 0.5 s"),
    });
    const waiting = pool.start(["run", "-v", "--", "echo", "granted"]);
    await waitFor("the queue", () => (waiting.stderr().includes("position 1") ? true : undefined));
    const leaving = pool.start(["run", "-v", "--", "true"]);
    await waitFor("the second place", () => (leaving.stderr().includes("position 2") ? true : undefined));
    leaving.child.kill("SIGINT");
    expect((await leaving.ended).status).toBe(130);
    holder.child.kill("SIGTERM");
    expect(await waiting.ended).toMatchObject({ status: 0, stdout: "granted\n" });
  });
});

describe("restarts", () => {
  test("of manager, agent and both are not noticed by a running program", async () => {
    const go = join(pool.folder, "go-on");
    const loop = `echo SESSION=$FARPOOL_SESSION; until [ -e ${go} ]; do sleep 0.05; done; echo done`;
    const run = pool.start(["run", "--", "sh", "-c", loop]);
    const answer = await askBroker(await sessionPath(run), HELLO);
    const shim = await connectAsShim(answer);
    let isCut = false;
    shim.once("close", () => {
      isCut = true;
    });
    const { pid } = await pool.client.call("status", {});
    const parts: { processes: Array<{ name: string; pid: number }> } = JSON.parse(
      readFileSync(join(pool.folder, "state/run/up.json"), "utf8"),
    );
    const agent = parts.processes.find(({ name }) => name === "agent");
    process.kill(pid, "SIGKILL");
    if (agent !== undefined) process.kill(agent.pid, "SIGKILL");
    await waitFor("a new manager with its server", async () => {
      const status = await pool.client.call("status", {});
      return status.pid !== pid && status.servers.online === 1 ? status : undefined;
    });
    expect((await pool.client.call("listSessions", { query: {} })).sessions).toMatchObject([
      { state: "active" },
    ]);
    // Longer than the lease of a client that is gone.
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    expect(isCut).toBe(false);
    writeFileSync(go, "");
    expect(await run.ended).toEqual({ status: 0, stdout: expect.stringContaining("done"), stderr: "" });
    shim.destroy();
    await nothingHeld();
  });

  test("of the manager keep the queue, and who waits is told", async () => {
    const holder = pool.start([
      "run",
      "-n",
      "2",
      "--",
      "sh",
      "-c",
      "echo SESSION=$FARPOOL_SESSION; sleep 65",
    ]);
    await sessionPath(holder);
    const waiting = pool.start(["run", "-v", "--", "echo", "granted"]);
    await waitFor("the queue", () => (waiting.stderr().includes("waiting for") ? true : undefined));
    const { pid } = await pool.client.call("status", {});
    process.kill(pid, "SIGKILL");
    await waitFor("the word", () => (waiting.stderr().includes("does not answer") ? true : undefined));
    holder.child.kill("SIGTERM");
    await holder.ended;
    expect(await waiting.ended).toMatchObject({ status: 0, stdout: "granted\n" });
    await nothingHeld();
  });
});

test("a second up says that one runs already, with its pid", async () => {
  const second = await pool.farpool(["up"]);
  expect(second).toMatchObject({
    status: 75,
    stderr: expect.stringContaining(`already running: pid ${pool.up.child.pid}`),
  });
  expect(processInfo(pool.up.child.pid ?? 0)).toBeDefined();
});

test.each([
  [["run", "-n", "99", "--", "true"], 69, "can ever grant is 2 × Fake GPU"],
  [["run", "-m", "1TiB", "--", "true"], 64, "the largest GPU of the pool is 1 × Fake GPU (8 GiB)"],
  [["run", "-p", "1.5", "--", "true"], 64, "-p takes a share above 0 and up to 1, not '1.5'"],
  [["run", "-p", "0.5", "-m", "3", "--", "true"], 64, "-p and -m both say"],
  [["run", "-m", "0", "--", "true"], 64, "-m takes an amount of memory from 1 MiB, not '0'"],
  [["run", "-n", "0", "--", "true"], 64, "-n takes a whole number from 1, not '0'"],
  [["run", "--wiat", "3", "--", "true"], 64, "hint: did you mean --wait?"],
  [["run", "-n", "1"], 64, "run needs a program"],
  [["run", "--", "no-such-program"], 127, "there is no program 'no-such-program' in PATH"],
  [["run", "--", "/tmp"], 126, "is a folder"],
  [["sttus"], 64, "hint: did you mean status?"],
  [["sessions", "show", "s-22222222"], 64, "there is no session s-22222222"],
])("farpool %j ends with %i and says why", async (words, status, sentence) => {
  const ended = await pool.farpool(words);
  expect(ended).toMatchObject({ status, stdout: "" });
  expect(ended.stderr).toContain(sentence);
});

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { waitFor, type Program } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

const PROGRAM = ["--", "sh", "-c", "echo ready; sleep 69"];

async function sessionOf(run: Program) {
  await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
  const { sessions } = await pool.client.call("listSessions", { query: {} });
  const session = sessions.find(({ client }) => client.pid === run.child.pid);
  if (session === undefined) throw new Error(`process ${run.child.pid} has no session`);
  return session;
}

async function stop(run: Program): Promise<void> {
  run.child.kill("SIGTERM");
  await run.ended;
}

test("a run that uses no GPU is warned once, and ended with the reason", async () => {
  const run = pool.start(["run", "--idle-timeout", "5s", ...PROGRAM]);
  const { id } = await sessionOf(run);
  await waitFor("the end", () => (run.stderr().includes("has ended") ? true : undefined), 30_000);
  expect(run.stderr()).toMatch(
    new RegExp(
      `^farpool: session ${id}: idle for \\d.* s: it ends in \\d\\.\\d s unless a program uses its GPUs\n` +
        `farpool: session ${id} has ended, its programs lose their GPUs: idle for \\S+ s: no kernel, copy or call of its programs \\(its idle timeout is 5\\.0 s\\)\n$`,
    ),
  );
  await stop(run);
  expect((await pool.farpool(["sessions", "show", id])).stdout).toMatch(/ended +idle for .*; held /);
});

test("a maximum duration is extended, warned of, and then ends the session", async () => {
  const run = pool.start(["run", "--max-duration", "6s", ...PROGRAM]);
  const { id } = await sessionOf(run);
  expect(await pool.farpool(["sessions", "extend", id, "4s"])).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(new RegExp(`^session ${id} may live 10 s, until \\S+Z\n$`)),
  });
  await waitFor("the end", () => (run.stderr().includes("has ended") ? true : undefined), 30_000);
  expect(run.stderr()).toMatch(
    new RegExp(
      `^(farpool: session ${id}: its maximum duration of [\\d.]+ s is over in \\d\\.\\d s; 'farpool sessions extend ${id} 1h' asks for more\n)+` +
        `farpool: session ${id} has ended, its programs lose their GPUs: its maximum duration of 10 s is over\n$`,
    ),
  );
  await stop(run);
});

test("a message is shown on the terminal of run", async () => {
  const run = pool.start(["run", ...PROGRAM]);
  const { id } = await sessionOf(run);
  expect(
    await pool.farpool(["sessions", "message", id, "the server", "restarts at noon\u001b[2J"]),
  ).toMatchObject({
    status: 0,
    stderr: expect.stringContaining(`session ${id} (`),
  });
  await waitFor("the message", () => (run.stderr().includes("noon") ? true : undefined));
  expect(run.stderr()).toBe(`farpool: message for session ${id}: the server restarts at noon?[2J\n`);
  expect(await pool.farpool(["sessions", "extend", id, "1h"])).toMatchObject({
    status: 69,
    stderr: `farpool: the session ${id} has no maximum duration\nhint: it needs no extension\n`,
  });
  await stop(run);
  expect(await pool.farpool(["sessions", "message", id, "too late"])).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("has ended, nobody would read it"),
  });
});

test("a reserved session lives between programs, which run in it one after the other and side by side", async () => {
  const reserved = await pool.farpool(["reserve", "-n", "1", "--name", "desk", "--auto-release", "1h"]);
  expect(reserved).toMatchObject({ status: 0, stdout: expect.stringMatching(/^s-\w{8}\n$/), stderr: "" });
  const id = reserved.stdout.trim();
  const attach = (...words: string[]) => pool.farpool(["attach", id, ...words]);
  expect(await attach("--", "sh", "-c", "test -S $FARPOOL_SESSION && echo $LD_LIBRARY_PATH; exit 3")).toEqual(
    {
      status: 3,
      stdout: `${join(pool.folder, "dist/lib/shim")}\n`,
      stderr: "",
    },
  );
  // Longer than the lease of a session whose client is gone.
  await new Promise((resolve) => setTimeout(resolve, 4_000));
  const go = join(pool.folder, "go-attached");
  const [one, two] = [0, 1].map(() =>
    pool.start(["attach", "-v", id, "--", "sh", "-c", `echo ready; until [ -e ${go} ]; do sleep 0.05; done`]),
  );
  for (const program of [one, two])
    await waitFor("the program", () => (program?.stdout().includes("ready") ? true : undefined));
  writeFileSync(go, "");
  expect(await one?.ended).toMatchObject({
    status: 0,
    stderr: expect.stringContaining(`session ${id} goes on`),
  });
  expect(await two?.ended).toMatchObject({ status: 0 });
  expect((await pool.farpool(["sessions", "show", id])).stdout).toContain(
    "reserved, released when nothing is attached for 1 h",
  );
  expect(await pool.farpool(["release", id])).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(new RegExp(`^session ${id} is released: held `)),
  });
  expect(await attach("--", "true")).toMatchObject({
    status: 69,
    stderr: expect.stringContaining(`session ${id} has ended: released`),
  });
});

test("an auto-release ends a reserved session that nothing is attached to", async () => {
  const id = (await pool.farpool(["reserve", "--auto-release", "2s"])).stdout.trim();
  const held = pool.start(["attach", id, "--", "sh", "-c", "echo ready; sleep 4"]);
  await waitFor("the program", () => (held.stdout().includes("ready") ? true : undefined));
  expect(await held.ended).toMatchObject({ status: 0, stderr: "" });
  const session = await waitFor("the release", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: { ended: 10 } });
    return sessions.find((each) => each.id === id && each.state === "ended");
  });
  expect(session).toMatchObject({
    endReason: "released",
    endMessage: "nothing was attached to it for 2.0 s",
  });
});

test("only the client that reserved a session attaches to it, and only to a reserved one", async () => {
  const id = (await pool.farpool(["reserve"])).stdout.trim();
  const socket = {
    FARPOOL_RUNTIME: join(pool.folder, "state/run"),
    FARPOOL_STATE: join(pool.folder, "other"),
  };
  expect(await pool.farpool(["attach", id, "--", "true"], socket)).toMatchObject({
    status: 77,
    stderr: expect.stringMatching(
      /belongs to another client: its key is \S{43}, this client's is \S{43}\nhint: /,
    ),
  });
  const run = pool.start(["run", ...PROGRAM]);
  const other = await sessionOf(run);
  expect(await pool.farpool(["attach", other.id, "--", "true"])).toMatchObject({
    status: 69,
    stderr: expect.stringContaining(`session ${other.id} is not a reserved one`),
  });
  expect(await pool.farpool(["release", other.id])).toMatchObject({
    status: 69,
    stderr: expect.stringContaining(`'farpool sessions end ${other.id}' ends it nevertheless`),
  });
  await stop(run);
  expect((await pool.farpool(["release", id])).status).toBe(0);
});

test.each([
  [["run", "--idle-timeout", "0", "--", "true"], "--idle-timeout takes from 1 ms to 3650 days, not '0'"],
  [["run", "--max-duration", "soon", "--", "true"], "--max-duration: 'soon' is not a duration"],
  [["run", "--label", "x", "--", "true"], "--label takes NAME=VALUE, not 'x'"],
  [["run", "--project", "a b", "--", "true"], "--project takes 1 to 64 letters, digits or ._-, not 'a b'"],
  [["attach", "x", "--", "true"], "'x' is not a session id"],
  [["sessions", "extend", "s-22222222", "later"], "extend: 'later' is not a duration"],
  [["sessions", "extend", "s-22222222", "1h"], "there is no session s-22222222"],
  [["sessions", "message", "s-22222222", "hello"], "there is no session s-22222222"],
  [["release", "s-22222222"], "there is no session s-22222222"],
])("farpool %j is refused with a sentence", async (words, sentence) => {
  const ended = await pool.farpool(words);
  expect(ended).toMatchObject({ status: 64, stdout: "" });
  expect(ended.stderr).toContain(sentence);
});

import { appendFileSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { startProgram, waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { createRedact } from "./secrets.ts";

let pool: TestPool;
let state: string;
beforeAll(async () => {
  pool = await startTestPool();
  state = join(pool.folder, "state");
});
afterAll(async () => {
  await pool.stop();
});

const read = (file: string): string => readFileSync(join(state, file), "utf8");
const lines = (pem: string): string[] =>
  pem.split("\n").filter((line) => line !== "" && !line.includes("---"));
const privatePart = (pem: string): string => pem.slice(pem.indexOf("-----BEGIN PRIVATE KEY"));

test("none of the pool's secrets is in the archive, not even when a log has them all", async () => {
  const run = pool.start(["run", "-p", "0.1", "--", "sleep", "60"], {
    FARPOOL_DATABASE_PASSWORD: "correct horse",
  });
  const session = await waitFor("the session", async () => {
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    return sessions.find(({ state: now }) => now === "active");
  });
  const { secret, grant } = await pool.client.call("connectSession", { params: { sessionId: session.id } });
  const { join: joinString } = await pool.client.call("createJoinToken", { body: { role: "client" } });
  const params = { userName: "admin" };
  const { link } = await pool.client.call("createSignInCode", { params, body: {} });
  const invitations = [joinString.slice(-43), link.slice(-43)];
  const secrets = [
    read("api-token").trim(),
    read("postgres/password").trim(),
    ...lines(read("client-key.pem")),
    ...lines(privatePart(read("worker-identity.pem"))),
    secret,
    grant.grant,
    ...grant.grant.split(".").slice(1),
  ];
  appendFileSync(
    join(state, "logs/agent.log"),
    [
      ...secrets.map((each) => JSON.stringify({ msg: `with ${each} in it`, nested: { value: each } })),
      JSON.stringify({ pem: read("client-key.pem"), joined: read("client-key.pem").replaceAll("\n", "") }),
      `client   farpool join ${joinString}`,
      JSON.stringify({ msg: `sign in  farpool login '${link}'` }),
      `Authorization: Bearer ${secrets[0]}`,
      "postgres://farpool:hunter2hunter2@db.example/farpool",
      JSON.stringify({ config: JSON.stringify({ password: "a-password-of-nobody", user: "x" }) }),
    ].join("\n"),
  );

  const file = join(pool.folder, "bundle.tar.gz");
  const words = ["support-bundle", "--output", file, "--json"];
  const result = await pool.farpool(words, {
    FARPOOL_SOME_TOKEN: "token-in-a-variable",
    FARPOOL_X_PASSWORD: "pass-in-one",
  });
  run.child.kill("SIGTERM");
  await run.ended;

  expect(result).toMatchObject({ status: 0, stderr: "" });
  const archive = gunzipSync(readFileSync(file)).toString("latin1");
  const more = [
    "hunter2hunter2",
    "a-password-of-nobody",
    "token-in-a-variable",
    "pass-in-one",
    "PRIVATE KEY",
  ];
  expect([...secrets, ...invitations, ...more].filter((each) => archive.includes(each))).toEqual([]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("the archive is one that tar reads, with logs, versions, settings, pool and health", async () => {
  const file = join(pool.folder, "second.tar.gz");
  const page = await pool.farpool(["support-bundle", "-o", file]);
  expect(page).toMatchObject({ status: 0, stdout: "" });
  expect(page.stderr).toMatch(/second\.tar\.gz: \d+ KiB, without keys, tokens and passwords\n/);
  const environment = { PATH: process.env["PATH"] };
  const list = await startProgram(["tar", "-tzf", file], environment).ended;
  expect(list).toMatchObject({ status: 0, stderr: "" });
  for (const name of [
    "versions.json",
    "settings.json",
    "health.json",
    "pool.json",
    "machine.txt",
    "logs/manager.log",
  ])
    expect(list.stdout).toMatch(new RegExp(`^farpool-support-\\d{8}T\\d{6}Z/${name}$`, "m"));
  for (const name of ["versions", "settings", "health", "pool"]) {
    const words = ["tar", "-xzOf", file, "--wildcards", `*/${name}.json`];
    const { stdout } = await startProgram(words, environment).ended;
    expect(() => JSON.parse(stdout) as unknown).not.toThrow();
  }
});

test("without a pool there is an archive all the same, and a place that cannot be written is named", async () => {
  const nowhere = { FARPOOL_STATE: join(pool.folder, "nowhere") };
  const file = join(pool.folder, "third.tar.gz");
  expect(await pool.farpool(["support-bundle", "-o", file], nowhere)).toMatchObject({ status: 0 });
  expect(statSync(file).size).toBeGreaterThan(500);
  expect(await pool.farpool(["support-bundle", "-o", "/nonexistent/x"], nowhere)).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("the archive cannot be written to '/nonexistent/x' (ENOENT)"),
  });
});

test("what only looks like a name of a secret stays readable", () => {
  const redact = createRedact({ state: "/nonexistent", runtime: "/nonexistent" }, {});
  const harmless = [
    '{"api-token":{"mode":"600","size":44}}',
    "key ntDlj3EaeDZb_YBt6vcZiK-Ei3fUgZAujPIVV0o0FxY",
    "session s-7f3k2m9q, connection 0123456789abcdef0123456789abcdef",
    "http://127.0.0.1:7443",
    "wrong token",
  ];
  for (const text of harmless) expect(redact(text)).toBe(text);
});

import { statSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import type { ManagerClient } from "@farpool/client-api";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";
import { signInAtProvider } from "./oidc.ts";

const PASSWORD = "correct horse battery";
let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

const admin = (...words: string[]) => pool.farpool(["admin", ...words]);

async function client(name: string) {
  const { stdout } = await admin("tokens", "create", "--client");
  const machine = pool.on(name);
  expect(await machine.farpool(["join", stdout.trim(), "--name", name])).toMatchObject({ status: 0 });
  return machine;
}

async function lastSession() {
  const { sessions } = await pool.client.call("listSessions", { query: { ended: 1 } });
  return sessions[0];
}

test("reported, mapped, signed in: the last wins, in whoami and in what a session is billed as", async () => {
  const machine = await client("ws-1");
  const who = async () => JSON.parse((await machine.farpool(["whoami", "--json"])).stdout);
  const account = (await who()).reported.split("@")[0];
  expect(await who()).toMatchObject({
    reported: `${account}@ws-1`,
    source: "reported",
    isAdministrator: false,
  });
  await machine.farpool(["run", "--", "true"]);
  expect(await lastSession()).toMatchObject({ client: { user: account, host: "ws-1" } });

  await admin("users", "add", "alice");
  expect(await admin("users", "map", "alice", `${account}@ws-1`)).toMatchObject({ status: 0 });
  expect(await who()).toMatchObject({ mapped: "alice", source: "mapped" });
  await machine.farpool(["run", "--", "true"]);
  expect(await lastSession()).toMatchObject({ client: { user: "alice", host: "ws-1" } });

  expect(
    await pool.farpool(["admin", "users", "add", "bob", "--password-stdin"], {}, `${PASSWORD}\n`),
  ).toMatchObject({ status: 0, stderr: "bob is a user now\n" });
  expect(
    await machine.farpool(["login", "--user", "bob", "--password-stdin"], {}, `${PASSWORD}\n`),
  ).toMatchObject({ status: 0, stderr: expect.stringMatching(/^signed in as bob \(user\) until /) });
  expect(statSync(join(pool.folder, "ws-1/sign-in.json")).mode & 0o777).toBe(0o600);
  expect((await machine.farpool(["whoami"])).stdout).toMatch(/signed in {2}bob {3}← this one counts/);
  await machine.farpool(["run", "--", "true"]);
  expect(await lastSession()).toMatchObject({ client: { user: "bob", host: "ws-1" } });
  expect(await machine.farpool(["users"])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      "this is for administrators only; the user bob at the client ws-1 is none",
    ),
  });

  expect(await machine.farpool(["logout"])).toMatchObject({ status: 0, stderr: "bob is signed out\n" });
  expect(await who()).toMatchObject({ signedIn: null, source: "mapped" });
});

test("a link signs in once, as an administrator from a machine that has not joined", async () => {
  const machine = pool.on("laptop");
  const link = (await admin("login-link")).stdout.trim();
  expect(link).toMatch(/^https:\/\/127\.0\.0\.1:\d+\/login#/);
  expect(await machine.farpool(["login", link])).toMatchObject({
    status: 0,
    stderr: expect.stringContaining("signed in as admin (administrator)"),
  });
  expect(await pool.on("other").farpool(["login", link])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("the sign-in link was used already, at "),
  });
  expect(await machine.farpool(["users"])).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("admin"),
  });
  expect(await machine.farpool(["login", "https://elsewhere"])).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("this is not a sign-in link"),
  });
});

test("a user without a joined machine gets no session: a session has a client", async () => {
  const machine = pool.on("bare");
  await admin("users", "add", "eve");
  const link = (await admin("login-link", "eve")).stdout.trim();
  await machine.farpool(["login", link]);
  expect(await machine.farpool(["run", "--", "true"])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(
      "a session always has a client, and this machine is none\nhint: 'farpool join",
    ),
  });
});

test("who types five wrong passwords waits, told for how long; who is disabled is out at once", async () => {
  const machine = await client("ws-2");
  const add = ["admin", "users", "add", "carol", "--password-stdin"];
  await pool.farpool(add, {}, PASSWORD);
  const login = (password: string) =>
    machine.farpool(["login", "--user", "carol", "--password-stdin"], {}, password);
  expect(await login(PASSWORD)).toMatchObject({ status: 0 });
  for (let attempt = 0; attempt < 5; attempt += 1)
    expect(await login("wrong password")).toMatchObject({
      status: 77,
      stderr: expect.stringContaining("user and password do not fit together"),
    });
  expect(await login(PASSWORD)).toMatchObject({
    status: 75,
    stderr: expect.stringMatching(/5 attempts have failed within 15 min; the next is possible in 1[45] min/),
  });
  expect(await machine.farpool(["whoami"])).toMatchObject({ status: 0 });
  expect(await admin("users", "disable", "carol")).toMatchObject({ status: 0 });
  expect(await machine.farpool(["whoami"])).toMatchObject({
    status: 77,
    stderr: expect.stringMatching(
      /the token that was sent was ended at .*\nhint: 'farpool login' signs in again/,
    ),
  });
  expect((await admin("audit")).stdout).toContain("sign-in-refused");
});

test("a password shorter than ten characters is refused, and none is taken from arguments", async () => {
  expect(
    await pool.farpool(["admin", "users", "add", "dave", "--password-stdin"], {}, "short"),
  ).toMatchObject({ status: 64, stderr: expect.stringContaining("a password has 10 characters at least") });
  expect(await admin("users", "add", "dave", "--password")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("there is no terminal to ask for the password\nhint: --password-stdin"),
  });
});

test("an API token does what its scopes say, over HTTPS, until it is revoked", async () => {
  const made = JSON.parse(
    (await admin("tokens", "create", "--api", "admin", "--name", "ci", "--json")).stdout,
  );
  const { authority } = await pool.client.call("authority", {});
  const link = new URL((await admin("login-link")).stdout.trim());
  const send = (method: string, path: string) =>
    new Promise<{ status: number; body: string }>((resolve, reject) => {
      const headers = { authorization: `Bearer ${made.token}`, "content-type": "application/json" };
      // The host's own name, as other programs and browsers check it.
      const place = { host: "127.0.0.1", port: link.port, ca: authority };
      const outgoing = request({ ...place, method, path, headers }, (incoming) => {
        let body = "";
        incoming.setEncoding("utf8").on("data", (text: string) => {
          body += text;
        });
        incoming.once("end", () => resolve({ status: incoming.statusCode ?? 0, body }));
      });
      outgoing.once("error", reject);
      outgoing.end(method === "POST" ? "{}" : undefined);
    });
  expect(made.scopes).toEqual(["read"]);
  expect(await send("GET", "/v1/gpus")).toMatchObject({ status: 200 });
  expect(await send("GET", "/v1/users")).toMatchObject({ status: 403 });
  expect(await send("POST", "/v1/sessions/s-abcdefg/heartbeat")).toMatchObject({
    status: 403,
    body: expect.stringContaining("the token of admin is for read only"),
  });
  expect((await admin("tokens")).stdout).toMatch(/API: read +\d{4}-/);
  expect(await admin("tokens", "revoke", made.id)).toMatchObject({ status: 0 });
  expect(await send("GET", "/v1/gpus")).toMatchObject({ status: 401 });
  const forUser = await admin("tokens", "create", "--api", "alice", "--scope", "administer");
  expect(forUser).toMatchObject({ status: 77, stderr: expect.stringContaining("alice is no administrator") });
});

test("who signs in at a provider is waited for as long as the manager says, whatever the clock here says", async () => {
  const signedIn = { user: "alice", role: "user", token: "t", expiresAt: "2026-12-07T00:00:00.000Z" };
  const answers = [
    {
      ...{ flow: "f", verificationUri: "https://idp.example/device", verificationUriComplete: null },
      ...{ userCode: "ABCD", intervalSeconds: 0, expiresAt: "2020-01-01T00:00:00.000Z" },
    },
    { signedIn: null, intervalSeconds: 0 },
    { signedIn, intervalSeconds: 0 },
  ];
  const call = () => Promise.resolve(answers.shift());
  expect(await signInAtProvider({ call } as unknown as ManagerClient, "ws-17")).toEqual(signedIn);
});

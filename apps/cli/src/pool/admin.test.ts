import { rmSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { generateSigningKey } from "@farpool/identity";
import { waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

const admin = (...words: string[]) => pool.farpool(["admin", ...words]);
const created = (host: string) =>
  pool.client.call("createSession", {
    body: {
      count: 1,
      size: { kind: "share", share: 0.1 },
      name: null,
      client: { host, user: "dev1", pid: 1, program: null },
      clientKey: generateSigningKey().publicKey,
      waitMs: null,
    },
  });

test("a client that is revoked loses its GPUs while its program runs, and gets none again", async () => {
  const run = pool.start(["run", "--", "sh", "-c", "echo ready; sleep 67"]);
  await waitFor("the program", () => (run.stdout().includes("ready") ? true : undefined));
  const { clients } = await pool.client.call("listClients", {});
  const [known] = clients;
  if (known === undefined) throw new Error("there is no client");
  const { thumbprint, name } = known;
  expect((await admin("clients")).stdout).toContain(thumbprint);
  expect(await admin("clients", "revoke", "--reason", "lost laptop", name)).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(/ is revoked; 1 session ended\n$/),
  });
  await waitFor("the word", () => (run.stderr().includes("revoked") ? true : undefined));
  expect(run.stderr()).toMatch(
    /session s-\w+ has ended, its programs lose their GPUs: the client \S+ was revoked by an administrator: lost laptop\n/,
  );
  run.child.kill("SIGTERM");
  await run.ended;
  expect(await pool.farpool(["run", "--", "true"])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("was revoked at"),
  });
  expect(await admin("clients", "revoke", "--", thumbprint)).toMatchObject({
    status: 0,
    stderr: expect.stringContaining("was revoked already"),
  });
  const { stdout } = await admin("audit");
  expect(stdout).toMatch(
    /client-seen.*\n.*session-started.*\n.*client-revoked.*lost laptop\n.*session-ended.*lost laptop/,
  );
  expect(JSON.parse((await admin("audit", "--json", "--last", "1")).stdout).entries).toHaveLength(1);
  rmSync(join(pool.folder, "state/client-key.pem"));
  expect((await pool.farpool(["run", "--", "true"])).status).toBe(0);
});

test("a connection that the server turned away is in the audit", async () => {
  const preface = Buffer.alloc(96);
  preface.write("FARPOOL1", 0);
  preface.write("s-gone", 16);
  preface.fill(0xab, 48, 64);
  const socket = connect(join(pool.folder, "state/run/data.sock"), () => socket.write(preface));
  await new Promise((resolve) => socket.once("close", resolve));
  const line = await waitFor("the refusal", async () => {
    const { stdout } = await admin("audit", "--last", "10");
    return /^.* refused .*$/m.exec(stdout)?.[0];
  });
  expect(line).toMatch(/session s-gone, connection (ab){16}, on \S+, from fake: there is no session s-gone$/);
});

test("a name that several have revokes nobody, an unknown one is said", async () => {
  await created("ws-20");
  await created("ws-20");
  const { status, stderr } = await admin("clients", "revoke", "ws-20");
  expect(status).toBe(64);
  expect(stderr).toMatch(/2 clients are called 'ws-20': \S{43} \(dev1\), \S{43} \(dev1\)\nhint: /);
  const { clients } = await pool.client.call("listClients", {});
  const first = clients.find(({ name }) => name === "ws-20")?.thumbprint ?? "";
  expect((await admin("clients", "revoke", "--", first)).status).toBe(0);
  // One is left of that name.
  expect((await admin("clients", "revoke", "ws-20")).status).toBe(0);
  expect(await admin("clients", "revoke", "nobody")).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("there is no client 'nobody'"),
  });
  expect((await admin("clients", "list", "--json")).stdout).toContain('"revokedAt"');
});

import { chmodSync, existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { join } from "node:path";
import { createFakeInstallation, GIB, waitFor } from "@farpool/testkit";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startTestPool, type TestPool } from "../testing/pool.ts";

let pool: TestPool;
beforeAll(async () => {
  pool = await startTestPool();
});
afterAll(async () => {
  await pool.stop();
});

const admin = (...words: string[]) => pool.farpool(["admin", ...words]);

async function joinString(...words: string[]): Promise<string> {
  const made = await admin("tokens", "create", ...words);
  expect(made.status).toBe(0);
  return made.stdout.trim();
}

test("a machine joins with one string, runs a program, leaves, and can do nothing any more", async () => {
  const machine = pool.on("ws-17");
  const string = await joinString("--client");
  const joined = await machine.farpool(["join", string, "--client", "--name", "ws-17", "--labels", "room=4"]);
  expect(joined).toMatchObject({
    status: 0,
    stderr: expect.stringMatching(/^joined {3}ws-17, a client of the pool at https:\/\/127\.0\.0\.1:\d+\n/),
  });
  for (const file of ["client-membership.json", "client-key.pem"])
    expect(statSync(join(pool.folder, "ws-17", file)).mode & 0o777).toBe(0o600);
  const ran = await machine.farpool(["run", "-v", "--", "sh", "-c", "exit 4"]);
  expect(ran).toMatchObject({ status: 4, stderr: expect.stringContaining("1 × Fake GPU") });
  const { sessions } = await pool.client.call("listSessions", { query: { ended: 1 } });
  expect(sessions).toMatchObject([{ client: { host: "ws-17" }, state: "ended" }]);
  expect((await pool.farpool(["clients"])).stdout).toMatch(/ws-17 +joined .* room=4 /);
  expect(await machine.farpool(["join", string])).toMatchObject({
    status: 69,
    stderr: expect.stringContaining("this machine is a client already, 'ws-17', of the pool at https://"),
  });
  expect(await machine.farpool(["leave"])).toMatchObject({
    status: 0,
    stderr: expect.stringContaining("left     ws-17 is no client of the pool"),
  });
  for (const file of ["client-membership.json", "client-key.pem"])
    expect(existsSync(join(pool.folder, "ws-17", file))).toBe(false);
  expect((await pool.farpool(["clients"])).stdout).toMatch(/ws-17 +removed /);
  expect((await admin("audit")).stdout).toMatch(
    /machine-joined .*ws-17[^]*machine-left .*the client ws-17 left/,
  );
});

test("a string is good once, until it is revoked or its time is over; the refusal says which", async () => {
  const [first, second] = [pool.on("once-1"), pool.on("once-2")];
  const string = await joinString("--client");
  expect(await first.farpool(["join", string, "--name", "once-1"])).toMatchObject({ status: 0 });
  expect(await second.farpool(["join", string, "--name", "once-2"])).toMatchObject({
    status: 77,
    stderr:
      "farpool: the join token has been used up: it was for 1 machine(s)\n" +
      "hint: 'farpool admin tokens create' on the manager's machine makes another\n",
  });
  const revoked = JSON.parse((await admin("tokens", "create", "--client", "--uses", "5", "--json")).stdout);
  expect(await admin("tokens", "revoke", revoked.id)).toMatchObject({ status: 0 });
  expect(await second.farpool(["join", revoked.join])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("the join token was revoked at "),
  });
  expect(await second.farpool(["join", await joinString("--server"), "--client"])).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("this string is for a server, not for a client"),
  });
  const same = await second.farpool(["join", await joinString("--client"), "--name", "ONCE-1"]);
  expect(same).toMatchObject({
    status: 69,
    stderr: expect.stringContaining(
      "hint: --name chooses another name; if that machine is gone, 'farpool clients",
    ),
  });
  expect((await admin("tokens")).stdout).toContain("revoked");
});

test("another authority than the string's is refused before anything is told to it", async () => {
  const other = await startTestPool();
  try {
    const ours = await joinString("--client");
    const theirs = (await other.farpool(["admin", "tokens", "create", "--client"])).stdout.trim();
    const place = /^farpool:\/\/([^/]+)/;
    const crossed = ours.replace(place, `farpool://${place.exec(theirs)?.[1]}`);
    expect(await pool.on("crossed").farpool(["join", crossed])).toMatchObject({
      status: 77,
      stderr: expect.stringMatching(
        /^farpool: the manager at https:\/\/127\.0\.0\.1:\d+ has another certificate authority than the one in the string: SHA-256 /,
      ),
    });
    const { entries } = await other.client.call("audit", { query: { last: 50 } });
    expect(entries.map(({ kind }) => kind)).not.toContain("join-refused");
  } finally {
    await other.stop();
  }
});

test("control connections go through HTTPS_PROXY, joining too, but not to what NO_PROXY names", async () => {
  const asked: string[] = [];
  const proxy = createServer();
  proxy.on("connect", (request: IncomingMessage, socket: Socket) => {
    asked.push(request.url ?? "");
    const [host = "", port = ""] = (request.url ?? "").split(":");
    const target = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      target.pipe(socket).pipe(target);
    });
    for (const end of [socket, target]) end.on("error", () => end.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", () => resolve()));
  onTestFinished(() => void proxy.close());
  const address = proxy.address() as AddressInfo;
  const through = { HTTPS_PROXY: `http://127.0.0.1:${address.port}` };
  const machine = pool.on("behind");
  const string = await joinString("--client");
  const joined = await machine.farpool(["join", string, "--name", "behind"], through);
  expect(joined).toMatchObject({ status: 0 });
  const place = /^farpool:\/\/([^/]+)/.exec(string)?.[1];
  expect(new Set(asked)).toEqual(new Set([place]));
  asked.length = 0;
  expect(await machine.farpool(["gpus"], { ...through, NO_PROXY: "127.0.0.1" })).toMatchObject({ status: 0 });
  expect(asked).toEqual([]);
});

test.each([
  ["a string that is none", "hello"],
  ["half a string", "farpool://host:7443/client/abc"],
])("%s is refused with what one looks like", async (_, string) => {
  expect(await pool.on("none").farpool(["join", string])).toMatchObject({
    status: 64,
    stderr: expect.stringContaining("hint: it looks like farpool://HOST:7443/client/"),
  });
});

test("a server joins and serves, is removed by an administrator, and is refused from then on", async () => {
  const machine = pool.on("gpu-02");
  const gpus = [{ uuid: "GPU-second", name: "Second GPU", memoryTotalBytes: 16 * GIB }];
  const installation = createFakeInstallation(join(pool.folder, "dist-2"), gpus);
  const own = { FARPOOL_DIST: installation };
  const string = await joinString("--server");
  expect(await machine.farpool(["server"], own)).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("this machine is no server of a pool"),
  });
  await machine.farpool(["join", string, "--name", "gpu-02", "--labels", "rack=7,class=a100"], own);
  const server = machine.start(["server", "--simulated", "--data-port", "0"], own);
  onTestFinished(async () => {
    server.child.kill("SIGTERM");
    await server.ended;
  });
  await waitFor("the server", () => (server.stderr().includes("ready ") ? true : undefined), 30_000);
  const listed = (await pool.farpool(["servers"])).stdout;
  expect(listed).toMatch(/gpu-02 +online +1 .* rack=7,class=a100 /);
  expect((await pool.farpool(["gpus"])).stdout).toContain("Second GPU");
  // It sees the pool, and may not ask for sessions.
  expect(await machine.farpool(["gpus"], own)).toMatchObject({ status: 0 });
  expect(await machine.farpool(["run", "--", "true"], own)).toMatchObject({
    status: 77,
    stderr: expect.stringContaining("is for clients and users only; the server gpu-02 is none"),
  });
  expect(await pool.farpool(["servers", "remove", "gpu-02", "--reason", "broken fan"])).toMatchObject({
    status: 0,
  });
  await waitFor("the refusal", async () => {
    const { status, stderr } = await machine.farpool(["status"], own);
    return status === 77 && stderr.includes("the server gpu-02 was revoked at") ? stderr : undefined;
  });
  expect((await pool.farpool(["gpus", "--json"])).stdout).not.toContain("GPU-second");
});

test("others may not read what proves a machine: it is refused until that is mended", async () => {
  const machine = pool.on("open");
  await machine.farpool(["join", await joinString("--client"), "--name", "open"]);
  const file = join(pool.folder, "open/client-membership.json");
  writeFileSync(`${file}.copy`, readFileSync(file), { mode: 0o644 });
  const copy = pool.on("copied");
  chmodSync(file, 0o644);
  expect(await machine.farpool(["gpus"])).toMatchObject({
    status: 77,
    stderr: expect.stringContaining(`others may read ${file}: it has mode 0644\nhint: if nobody has read it`),
  });
  expect(await copy.farpool(["gpus"])).toMatchObject({ status: 69 });
});

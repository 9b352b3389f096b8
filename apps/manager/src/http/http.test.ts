import { readFileSync, statSync } from "node:fs";
import { request } from "node:http";
import { request as secureRequest } from "node:https";
import { connect } from "node:net";
import { join } from "node:path";
import { ACCESS, ERRORS, ROUTES, TIMES, type RouteName } from "@farpool/contract";
import { startTestServer, temporaryFolder, type TestServer } from "@farpool/testkit";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startManager, type Manager } from "../manager.ts";

const folder = temporaryFolder();
const socketPath = join(folder.path, "manager.sock");
const tokenFile = join(folder.path, "token");
const port = 20_000 + (process.pid % 20_000);
let postgres: TestServer;
let manager: Manager;

beforeAll(async () => {
  postgres = await startTestServer();
  manager = await startManager({
    connection: await postgres.createDatabase(),
    databaseKind: "external",
    socketPath,
    tcp: { host: "127.0.0.1", port },
    tokenFile,
    graceMs: TIMES.graceMs,
    logger: pino({ level: "silent" }),
  });
});
afterAll(async () => {
  await manager.stop();
  await postgres.stop();
  folder[Symbol.dispose]();
});

interface Answer {
  readonly status: number;
  readonly body: string;
}

interface Raw {
  readonly method: string;
  readonly path: string;
  readonly body?: string | undefined;
  readonly headers?: Record<string, string>;
}

function send({ method, path, body, headers = {} }: Raw, target: object = { socketPath }): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = ("port" in target ? secureRequest : request)(
      { ...target, method, path, headers: { "content-type": "application/json", ...headers } },
      (incoming) => {
        let text = "";
        incoming.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        incoming.once("end", () => resolve({ status: incoming.statusCode ?? 0, body: text }));
      },
    );
    outgoing.once("error", reject);
    outgoing.end(body);
  });
}

const post = (path: string, body: unknown): Promise<Answer> =>
  send({ method: "POST", path, body: typeof body === "string" ? body : JSON.stringify(body) });

const client = { host: "h", user: "u", pid: 1, program: null };
const clientKey = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
const good = { count: 1, size: { kind: "whole" }, name: null, client, clientKey, waitMs: null };

test.each([
  ["no JSON", "{"],
  ["null", null],
  ["a list", []],
  ["nothing", {}],
  ["no GPUs", { ...good, count: 0 }],
  ["half a GPU in number", { ...good, count: 1.5 }],
  ["too many to count", { ...good, count: 1e300 }],
  ["an unknown size", { ...good, size: { kind: "huge" } }],
  ["a share above one", { ...good, size: { kind: "share", share: 1.5 } }],
  ["no memory", { ...good, size: { kind: "memory", memoryMib: 0 } }],
  ["a name with a zero", { ...good, name: "a\0b" }],
  ["a negative wait", { ...good, waitMs: -1 }],
  ["a priority above all", { ...good, priority: 101 }],
  ["an empty filter", { ...good, filters: [""] }],
  ["more filters than anybody needs", { ...good, filters: Array(33).fill("gpu.index=0") }],
  ["no time at all", { ...good, maxDurationMs: 0 }],
  ["no key", { ...good, clientKey: undefined }],
  ["a key of another kind", { ...good, clientKey: { ...clientKey, crv: "X25519" } }],
  ["a key spelt differently", { ...good, clientKey: { ...clientKey, x: clientKey.x.replace(/o$/, "p") } }],
  ["a prototype", '{"__proto__":{"count":1}}'],
])("a request with %s gets a code and a sentence", async (_, body) => {
  const answer = await post("/v1/sessions", body);
  expect(answer.status).toBe(400);
  expect(JSON.parse(answer.body)).toMatchObject({
    error: { code: "FARPOOL_BAD_REQUEST", message: expect.any(String) },
  });
});

test("a program's name with a zero byte, which PostgreSQL cannot store, is no failure of ours", async () => {
  const answer = await post("/v1/sessions", { ...good, client: { ...client, program: "a\0b" } });
  expect(JSON.parse(answer.body)).toMatchObject({ error: { code: "FARPOOL_NEVER_FITS" } });
});

test("a body that is too large is refused", async () => {
  expect(await post("/v1/sessions", "x".repeat(100_000))).toMatchObject({ status: 413 });
});

test("who sends more than is read, and asks to close, still gets the answer", async () => {
  const length = 8 * 1024 * 1024;
  const head = `POST /v1/sessions HTTP/1.1\r\nhost: farpool\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\n\r\n`;
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(socketPath, () => socket.write(head + "x".repeat(length)));
    let answer = "";
    socket.setEncoding("utf8").on("data", (chunk) => (answer += chunk));
    socket.once("end", () => resolve(answer)).once("error", reject);
  });
  expect(text).toMatch(/^HTTP\/1\.1 413 .*"FARPOOL_TOO_LARGE"/s);
});

test("who sends slower than anybody waits is answered in the middle", async () => {
  const head = "POST /v1/sessions HTTP/1.1\r\nhost: farpool\r\ncontent-type: application/json\r\n";
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(socketPath, () => socket.write(`${head}content-length: 100000\r\n\r\n[`));
    socket.setEncoding("utf8").once("data", (chunk) => resolve(String(chunk)));
    socket.once("data", () => socket.destroy()).once("error", reject);
  });
  expect(text).toMatch(/^HTTP\/1\.1 413 /);
});

test.each([
  "/v1/sessions/nonsense",
  "/v1/sessions/s-%00abc",
  `/v1/sessions/s-${"a".repeat(500)}`,
  "/v1/agents/1/desired?revision=x",
  "/v2/anything",
])("%s gets a code and a sentence", async (path) => {
  const answer = await send({ method: "GET", path });
  expect([400, 404]).toContain(answer.status);
  expect(Object.keys(ERRORS)).toContain(JSON.parse(answer.body).error.code);
});

test("what is no HTTP at all is answered with 400, and the manager lives", async () => {
  const text = await new Promise<string>((resolve, reject) => {
    const socket = connect(socketPath, () => socket.write("\x16\x03\x01\x00 hello\r\n\r\n"));
    let received = "";
    socket.on("data", (chunk) => {
      received += chunk.toString();
    });
    socket.once("close", () => resolve(received));
    socket.once("error", reject);
  });
  expect(text).toContain("400 Bad Request");
  expect(await send({ method: "GET", path: "/readyz" })).toMatchObject({ status: 200 });
});

/** What comes back to bytes that are sent as they are. */
function raw(bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath, () => socket.write(bytes));
    let received = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      received += chunk;
    });
    socket.once("end", () => {
      socket.destroy();
      resolve(received);
    });
    socket.once("error", reject);
  });
}

// What the fuzzer found (fuzz.test.ts), each with its own name.
test.each([
  ["headers that are too long", `GET /healthz HTTP/1.1\r\nhost: a\r\nx: ${"a".repeat(40_000)}\r\n\r\n`, 431],
  [
    "a path that cannot be decoded",
    "GET /v1/servers%ff HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    400,
  ],
  ["CONNECT", "CONNECT example.org:443 HTTP/1.1\r\nhost: a\r\n\r\n", 400],
  ["an expectation", "GET /healthz HTTP/1.1\r\nhost: a\r\nexpect: more\r\nconnection: close\r\n\r\n", 417],
  ["an address of 100 KB", `GET /${"a".repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`, 431],
])("%s are refused in the format of errors", async (_, bytes, status) => {
  const text = await raw(bytes);
  expect(text).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
  expect(JSON.parse(text.split("\r\n\r\n")[1] ?? "")).toMatchObject({
    error: { code: "FARPOOL_BAD_REQUEST" },
  });
});

test("a sentence that quotes what was sent stays one line of bounded length", async () => {
  const path = `/v1/sessions/${encodeURIComponent(`\u001B[31m\r\n${"x".repeat(3_000)}`)}/hold`;
  const { error } = JSON.parse((await send({ method: "GET", path })).body) as { error: { message: string } };
  expect(error.message).toMatch(/^'\?\[31m\?\?x+…$/);
  expect(error.message.length).toBeLessThanOrEqual(500);
});

test.each([
  ["a year that PostgreSQL does not read", { startedAt: 2_234_612_809_941_172 }],
  ["the year 0", { startedAt: "0000-01-01T00:00:00Z" }],
  ["a process id of 40 bits", { pid: 2 ** 40 }],
])("a worker with %s is refused and is no failure of ours", async (_, field) => {
  const worker = { pid: 1, connectionId: "0".repeat(32), startedAt: 0, ...field };
  const workers = [{ sessionId: "s-abcdef", worker }];
  const body = { appliedRevision: 0, openSessions: [], failures: [], workers };
  const answer = await post("/v1/agents/11111111-1111-4111-8111-111111111111/report", body);
  expect(answer).toMatchObject({ status: 400 });
});

test("over TCP only the token opens the door", async () => {
  const tcp = { host: "127.0.0.1", port, rejectUnauthorized: false };
  const status = { method: "GET", path: "/v1/status" };
  const token = readFileSync(tokenFile, "utf8").trim();
  expect(await send(status, tcp)).toMatchObject({ status: 401 });
  expect(await send({ ...status, headers: { authorization: "Bearer wrong" } }, tcp)).toMatchObject({
    status: 401,
  });
  expect(await send({ ...status, headers: { authorization: `Bearer ${token}` } }, tcp)).toMatchObject({
    status: 200,
  });
  expect(await send({ method: "GET", path: "/healthz" }, tcp)).toMatchObject({ status: 200 });
  expect(await send({ method: "GET", path: "/no-such-page" }, tcp)).toMatchObject({ status: 401 });
});

const everyRoute = Object.entries(ROUTES).map(([name, route]) => ({ name: name as RouteName, ...route }));
/** Fits what a path wants, and names nothing. */
const SAMPLES: Readonly<Record<string, string>> = {
  sessionId: "s-22222222",
  thumbprint: "A".repeat(43),
  userName: "nobody",
};
const filled = (path: string): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => SAMPLES[name] ?? "6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f");

test("who shows nothing over the network gets a sentence from every request that is not for anyone", async () => {
  for (const { name, method, path } of everyRoute) {
    if (ACCESS[name]?.includes("anyone") === true) continue;
    const tcp = { host: "127.0.0.1", port, rejectUnauthorized: false };
    const answer = await send(
      { method, path: filled(path), body: method === "POST" ? "{}" : undefined },
      tcp,
    );
    expect({ name, ...JSON.parse(answer.body) }).toMatchObject({
      name,
      error: {
        code: "FARPOOL_UNAUTHENTICATED",
        message: expect.stringContaining("a certificate or a token"),
      },
    });
  }
});

test("hostile bodies, paths and queries: every request answers with a code and a sentence, never with a failure of ours", async () => {
  const nested = "[".repeat(20_000) + "]".repeat(20_000);
  const bodies = [
    "",
    "{",
    "null",
    "[]",
    '"\\u0000"',
    "{}",
    '{"__proto__":{}}',
    '{"user":{"a":1},"role":[]}',
    nested,
  ];
  const zero =
    '{"name":"a\\u0000b","user":"a\\u0000b","password":"a\\u0000bcdefghijk","code":"\\u0000","reason":"\\u0000"}';
  for (const { name, method, path } of everyRoute) {
    const paths = [
      filled(path),
      path.replaceAll(/\{\w+\}/g, "%00"),
      path.replaceAll(/\{\w+\}/g, "x".repeat(9_000)),
    ];
    for (const place of new Set(paths.map((each) => `${each}?revision=-1&last=x&account=%00`)))
      for (const body of method === "POST" ? [...bodies, zero] : [undefined]) {
        const answer = await send({ method, path: place, body });
        if (answer.status === 200) continue;
        const { error } = JSON.parse(answer.body);
        expect({ name, place, body, status: answer.status, code: error.code }).toMatchObject({
          status: expect.toSatisfy((status: number) => status < 500),
          code: expect.stringMatching(/^FARPOOL_/),
        });
        expect(error.message.length).toBeGreaterThan(0);
      }
  }
});

test("what is no TLS, and TLS that says nothing, is sent away, and the manager lives", async () => {
  const ends = await Promise.all(
    ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "\0".repeat(100_000)].map(
      (text) =>
        new Promise<boolean>((resolve) => {
          const socket = connect(port, "127.0.0.1", () => socket.end(text, "latin1"));
          socket.on("error", () => undefined);
          socket.once("close", () => resolve(true));
          socket.resume();
        }),
    ),
  );
  expect(ends).toEqual([true, true, true]);
  const answer = await send(
    { method: "GET", path: "/readyz" },
    { host: "127.0.0.1", port, rejectUnauthorized: false },
  );
  expect(answer).toMatchObject({ status: 200 });
});

test("only the owner reads the token and opens the socket", () => {
  expect(statSync(tokenFile).mode & 0o777).toBe(0o600);
  expect(statSync(socketPath).mode & 0o777).toBe(0o600);
});

test("the OpenAPI document has every request of the contract, and refers to nothing that it does not have", async () => {
  const document = JSON.parse((await send({ method: "GET", path: "/openapi.json" })).body);
  expect(document.openapi).toBe("3.1.0");
  for (const [name, { method, path }] of Object.entries(ROUTES)) {
    expect(document.paths[path][method.toLowerCase()].operationId).toBe(name);
  }
  const references = JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]*)"/g);
  for (const [, name = ""] of references) expect(document.components.schemas).toHaveProperty(name);
});

test("the page of the API needs no token and nothing of another host", async () => {
  const { status, body } = await send(
    { method: "GET", path: "/docs" },
    { host: "127.0.0.1", port, rejectUnauthorized: false },
  );
  expect(status).toBe(200);
  for (const { path } of Object.values(ROUTES)) expect(body).toContain(`<code>${path}</code>`);
  expect(body).not.toMatch(/(?:src|href)="(?!\/|#)/);
});

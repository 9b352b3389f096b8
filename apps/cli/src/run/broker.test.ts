import { spawn } from "node:child_process";
import { createHash, generateKeyPairSync, randomUUID } from "node:crypto";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import {
  connectionIdSchema,
  serverIdSchema,
  sessionIdSchema,
  type Endpoint,
  type ServerId,
  type SessionConnection,
  type SessionGrant,
} from "@farpool/contract";
import { generateSigningKey, routingToken } from "@farpool/identity";
import { readClaims, signSessionGrant } from "@farpool/identity/grants";
import { temporaryFolder, waitFor } from "@farpool/testkit";
import { compactVerify, decodeProtectedHeader, importJWK } from "jose";
import { describe, expect, onTestFinished, test } from "vitest";
import { startBroker, type Broker } from "./broker.ts";
import { endPreface } from "./end-notice.ts";
import { processInfo } from "./processes.ts";

const SECRET = "5a".repeat(32);
const sessionId = sessionIdSchema.parse("s-7f3k2m9q");
const serverId = serverIdSchema.parse(randomUUID());
const manager = generateSigningKey();
const clientKey = generateSigningKey();

async function grantFor(validSeconds: number, server = serverId): Promise<SessionGrant> {
  const signedAt = Math.floor(Date.now() / 1_000) - (900 - validSeconds);
  const claims = {
    poolId: randomUUID(),
    sessionId,
    serverId: server,
    client: clientKey.thumbprint,
    signedAt,
  };
  return { grant: await signSessionGrant(manager, claims), validSeconds };
}

async function start(
  changes: Partial<SessionConnection> = {},
  renew = (server: ServerId) => grantFor(900, server),
): Promise<Broker> {
  const folder = temporaryFolder();
  const connection: SessionConnection = {
    secret: SECRET,
    endpoints: [
      { kind: "unix", path: "/run/data.sock" },
      { kind: "tls", host: "gpu-01", port: 7445 },
      { kind: "tls", host: "2001:db8::1", port: 7445 },
    ],
    serverId,
    graceSeconds: 120,
    authorities: [Buffer.from("a certificate").toString("base64")],
    grant: await grantFor(900),
    furtherServers: [],
    ...changes,
  };
  const broker = await startBroker({
    sessionId,
    connection,
    clientKey,
    renewGrant: renew,
    readGpus: () =>
      Promise.resolve({ driverVersion: "13.0", driverRelease: null, simulated: true, gpus: [] }),
    folder: folder.path,
  });
  onTestFinished(() => {
    broker.close();
    folder[Symbol.dispose]();
  });
  return broker;
}

/** As a shim makes one at `cuInit`. */
function shimKey(): string {
  return generateKeyPairSync("ed25519")
    .publicKey.export({ type: "spki", format: "der" })
    .toString("base64url");
}

interface Ask {
  readonly pid?: number;
  readonly key?: string;
  readonly connection?: string;
  readonly server?: string;
}

const hello = ({ pid = process.pid, key = shimKey(), connection, server }: Ask = {}): string =>
  [
    "farpool-broker 2",
    `pid ${pid}`,
    "program train",
    `key ${key}`,
    ...(connection === undefined ? [] : [`connection ${connection}`]),
    ...(server === undefined ? [] : [`server ${server}`]),
    "unknown line",
    "",
    "",
  ].join("\n");

function send(broker: Broker, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(broker.path, () => socket.write(request));
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk.toString();
    });
    socket.once("error", reject);
    socket.once("close", () => resolve(answer));
  });
}

const field = (answer: string, name: string): string =>
  new RegExp(`^${name} (.*)$`, "m").exec(answer)?.[1] ?? "";

/** Another process, which asks as this one does. */
const SEND = `
  const socket = require("node:net").connect(process.argv[1]);
  socket.pipe(process.stdout);
  socket.write(process.argv[2]);
`;

/** Asks once for each request, one after the other, and stays. */
const ASK_AND_WAIT = `
  const [path, ...requests] = process.argv.slice(1);
  const { connect } = require("node:net");
  const ask = () => {
    const socket = connect(path);
    socket.pipe(process.stdout, { end: false });
    socket.write(requests.shift());
    if (requests.length > 0) socket.once("close", ask);
  };
  ask();
  setTimeout(() => undefined, 60_000);
`;

/** An acceptor that is told of ends. */
async function listen(
  folder: string,
  name: string,
): Promise<{ readonly endpoint: Endpoint; readonly told: Buffer[] }> {
  const path = join(folder, name);
  const told: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on("data", (data) => {
      told.push(data);
      socket.end(Buffer.from([1]));
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  onTestFinished(() => void server.close());
  return { endpoint: { kind: "unix", path }, told };
}

test("a process gets a connection, its token, and a grant that is for this process and this key", async () => {
  const broker = await start();
  const key = shimKey();
  const answer = await send(broker, hello({ key }));
  const connection = connectionIdSchema.parse(field(answer, "connection"));
  const grant = field(answer, "grant");
  expect(answer).toBe(
    [
      "ok",
      `session ${sessionId}`,
      `connection ${connection}`,
      `token ${routingToken(SECRET, connection).toString("hex")}`,
      `grant ${grant}`,
      `trust ${Buffer.from("a certificate").toString("base64url")}`,
      `server ${serverId}`,
      "grace 120",
      "endpoint unix /run/data.sock",
      "endpoint tls gpu-01:7445",
      "endpoint tls [2001:db8::1]:7445",
      "",
      "",
    ].join("\n"),
  );
  expect(answer).not.toContain(SECRET);
  const { jwk } = decodeProtectedHeader(grant);
  expect(jwk).toEqual(clientKey.publicKey);
  await compactVerify(grant, await importJWK(clientKey.publicKey, "EdDSA"));
  const claims = readClaims(grant);
  expect(claims).toMatchObject({
    cid: connection,
    key: createHash("sha256").update(Buffer.from(key, "base64url")).digest("base64url"),
    uid: process.geteuid?.(),
    pid: process.pid,
    start: Number(processInfo("self")?.startTime),
    program: "train",
  });
  expect(Number(claims["exp"]) - Number(claims["iat"])).toBe(60);
  await compactVerify(String(claims["session"]), await importJWK(manager.publicKey, "EdDSA"));
  expect(broker.admitted).toEqual([{ pid: process.pid, program: "train" }]);
  expect(broker.connectionCount()).toBe(1);
});

test("a process of an old shim is told that it is of another version", async () => {
  const broker = await start();
  const old = "farpool-broker 1\npid 4711\nprogram test\n\n";
  expect(await send(broker, old)).toMatch(/^error 69 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH /);
});

test("a resume gets the same connection with a new grant, for the same process and key only", async () => {
  const broker = await start();
  const key = shimKey();
  const first = await send(broker, hello({ key }));
  const connection = field(first, "connection");
  const again = await send(broker, hello({ key, connection }));
  expect(field(again, "connection")).toBe(connection);
  expect(field(again, "token")).toBe(field(first, "token"));
  expect(readClaims(field(again, "grant"))).toMatchObject({ cid: connection, pid: process.pid });
  expect(broker.admitted).toHaveLength(1);
  expect(await send(broker, hello({ connection }))).toMatch(
    /^error 77 CUDA_ERROR_NOT_PERMITTED the connection \S+ was made with another key/,
  );
  const other = spawn(process.execPath, ["-e", SEND, broker.path, hello({ key, connection })]);
  const answered = await other.stdout.toArray();
  expect(Buffer.concat(answered).toString()).toBe(
    `error 77 CUDA_ERROR_NOT_PERMITTED the connection ${connection} belongs to process ${process.pid}, not to ${other.pid ?? 0}\n`,
  );
  for (const unknown of ["f".repeat(32), "nonsense"]) {
    expect(await send(broker, hello({ key, connection: unknown }))).toBe(
      `error 77 CUDA_ERROR_NOT_PERMITTED there is no connection ${unknown} that could be resumed\n`,
    );
  }
});

describe("with several servers", () => {
  const further = serverIdSchema.parse(randomUUID());

  async function startSpread({
    first = { kind: "unix", path: "/run/data.sock" },
    second = { kind: "tls", host: "gpu-02", port: 7445 },
    validSeconds = 900,
  }: { first?: Endpoint; second?: Endpoint; validSeconds?: number } = {}): Promise<Broker> {
    const grant = async (server: ServerId) => ({ ...(await grantFor(900, server)), validSeconds });
    return start({
      endpoints: [first],
      grant: await grant(serverId),
      furtherServers: [{ serverId: further, endpoints: [second], grant: await grant(further) }],
    });
  }

  test("a process gets a connection to each, with a token and a grant for it, and is counted once", async () => {
    const broker = await startSpread();
    const key = shimKey();
    const first = await send(broker, hello({ key }));
    const second = await send(broker, hello({ key, server: "1" }));
    const connection = connectionIdSchema.parse(field(second, "connection"));
    expect(second).toBe(
      [
        "ok",
        `session ${sessionId}`,
        "servers 2",
        `connection ${connection}`,
        `token ${routingToken(SECRET, connection).toString("hex")}`,
        `grant ${field(second, "grant")}`,
        `trust ${Buffer.from("a certificate").toString("base64url")}`,
        `server ${further}`,
        "grace 120",
        "endpoint tls gpu-02:7445",
        "",
        "",
      ].join("\n"),
    );
    expect(first).toContain(`\nsession ${sessionId}\nservers 2\nconnection `);
    expect(first).toContain(`\nserver ${serverId}\ngrace 120\nendpoint unix /run/data.sock\n\n`);
    expect(field(first, "connection")).not.toBe(connection);
    const claims = [first, second].map((answer) => readClaims(field(answer, "grant")));
    expect(claims[1]).toMatchObject({ cid: connection, key: claims[0]?.["key"], pid: process.pid });
    expect(claims.map(({ session }) => readClaims(String(session))["aud"])).toEqual([serverId, further]);
    expect(broker.admitted).toEqual([{ pid: process.pid, program: "train" }]);
    expect(broker.connectionCount()).toBe(2);
  });

  test("each server's grant is renewed for that server", async () => {
    const broker = await startSpread({ validSeconds: 0 });
    const answers = [await send(broker, hello({ server: "0" })), await send(broker, hello({ server: "1" }))];
    const grants = answers.map((answer) => readClaims(String(readClaims(field(answer, "grant"))["session"])));
    expect(grants).toMatchObject([{ aud: serverId }, { aud: further }]);
  });

  test("a resume is to the server of its connection", async () => {
    const broker = await startSpread();
    const key = shimKey();
    await send(broker, hello({ key }));
    const connection = field(await send(broker, hello({ key, server: "1" })), "connection");
    for (const server of [{}, { server: "1" }]) {
      const again = await send(broker, hello({ key, connection, ...server }));
      expect(field(again, "connection")).toBe(connection);
      expect(field(again, "server")).toBe(further);
    }
    expect(await send(broker, hello({ key, connection, server: "0" }))).toBe(
      `error 77 CUDA_ERROR_NOT_PERMITTED the connection ${connection} is one to server 1, not to server 0\n`,
    );
    expect(broker.connectionCount()).toBe(2);
  });

  test.each(["2", "-1", "one", ""])("there is no server '%s'", async (server) => {
    const broker = await startSpread();
    expect(await send(broker, hello({ server }))).toBe(
      `error 69 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH the program's libcuda.so.1 asked for server '${server}' of session ${sessionId}, expected a number from 0 to 1: it is of another version\n`,
    );
    expect(broker.admitted).toEqual([]);
  });

  test("the death of a process is told to each", async () => {
    using folder = temporaryFolder();
    const [first, second] = [await listen(folder.path, "first"), await listen(folder.path, "second")];
    const broker = await startSpread({ first: first.endpoint, second: second.endpoint });
    const key = shimKey();
    const asking = spawn(process.execPath, [
      ...["-e", ASK_AND_WAIT, broker.path],
      ...[hello({ key }), hello({ key, server: "1" })],
    ]);
    const answers = () => said.split("\n\n").filter((answer) => answer !== "");
    let said = "";
    asking.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    await waitFor("both answers", () => (answers().length === 2 ? true : undefined));

    asking.kill("SIGKILL");

    const ends = answers().map((answer) =>
      endPreface({
        sessionId,
        connectionId: connectionIdSchema.parse(field(answer, "connection")),
        connection: { secret: SECRET, endpoints: [] },
      }),
    );
    const told = () => [first.told, second.told].flat();
    await waitFor("the word", () => (told().length === 2 ? true : undefined));
    expect([first.told, second.told]).toEqual([[ends[0]], [ends[1]]]);
  });
});

test("a session on one server has no other", async () => {
  const broker = await start();
  expect(await send(broker, hello({ server: "0" }))).toMatch(/^ok\nsession \S+\nconnection /);
  expect(await send(broker, hello({ server: "1" }))).toContain(
    `asked for server '1' of session ${sessionId}, expected 0: it is of another version`,
  );
});

test("who asks is who the kernel says, whatever the request names", async () => {
  const broker = await start();
  const answer = await send(broker, hello({ pid: 4_000_000_000 }));
  expect(readClaims(field(answer, "grant"))).toMatchObject({ pid: process.pid });
  expect(broker.admitted).toEqual([{ pid: process.pid, program: "train" }]);
});

test.each([
  [
    { key: "" },
    "error 69 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH the program's libcuda.so.1 named a key of 0 bytes",
  ],
  [
    { key: "A".repeat(59) },
    "error 69 CUDA_ERROR_SYSTEM_DRIVER_MISMATCH the program's libcuda.so.1 named a key of 44",
  ],
])("a request with %j is refused with a sentence", async (ask, sentence) => {
  const broker = await start();
  expect(await send(broker, hello(ask))).toContain(sentence);
  expect(broker.admitted).toEqual([]);
});

test("another version, and a session that has ended, are told", async () => {
  const broker = await start();
  expect(await send(broker, "farpool-broker 9\n\n")).toMatch(
    /said 'farpool-broker 9': they are of different/,
  );
  broker.refuse({ exitCode: 69, cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE", sentence: "it has\nended" });
  expect(await send(broker, hello())).toBe("error 69 CUDA_ERROR_DEVICE_UNAVAILABLE it has ended\n");
});

test("with a grant that has ended and a manager that is away the reason is told", async () => {
  const away = () => Promise.reject(new Error("the manager cannot be reached"));
  const ended = { ...(await grantFor(900)), validSeconds: 0 };
  const broker = await start({ grant: ended }, away);
  expect(await send(broker, hello())).toBe(
    "error 69 CUDA_ERROR_SYSTEM_NOT_READY the session's grant ended and could not be renewed: the manager cannot be reached\n",
  );
});

test("a client whose clock is an hour wrong signs by the manager's", async () => {
  const signedAt = Math.floor(Date.now() / 1_000) + 3_600;
  const claims = { poolId: randomUUID(), sessionId, serverId, client: clientKey.thumbprint, signedAt };
  const broker = await start({
    grant: { grant: await signSessionGrant(manager, claims), validSeconds: 900 },
  });
  const { iat } = readClaims(field(await send(broker, hello()), "grant"));
  expect(Number(iat) - signedAt).toBeGreaterThanOrEqual(0);
  expect(Number(iat) - signedAt).toBeLessThan(60);
});

test("nonsense and endless requests do the broker no harm", async () => {
  const broker = await start();
  expect(await send(broker, "\n\n")).toMatch(/^error 69 /);
  expect(await send(broker, `farpool-broker 2\n${"x".repeat(20_000)}`)).toBe("");
  expect(await send(broker, `${hello()}more that nobody asked for`)).toMatch(/^ok\n/);
});

test("a process that asks what the GPUs are gets lines about them, and is not let in by that", async () => {
  const broker = await start();
  const ask = ["farpool-broker 2", "want gpus", `pid ${process.pid}`, "program nvidia-smi", "", ""].join(
    "\n",
  );
  expect(broker.wasLookedAt()).toBe(false);
  expect(await send(broker, ask)).toBe(
    ["ok", `session ${sessionId}`, "cuda 13.0", "simulated yes", "", ""].join("\n"),
  );
  expect(broker.wasLookedAt()).toBe(true);
  expect(broker.admitted).toEqual([]);
});

test("after the session's end a process that asks what the GPUs are is told why there are none", async () => {
  const broker = await start();
  broker.refuse({ exitCode: 69, cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE", sentence: "it has ended" });
  const ask = ["farpool-broker 2", "want gpus", "pid 1", "", ""].join("\n");
  expect(await send(broker, ask)).toBe("error 69 CUDA_ERROR_DEVICE_UNAVAILABLE it has ended\n");
});

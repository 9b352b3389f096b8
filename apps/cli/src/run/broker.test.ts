import { spawn } from "node:child_process";
import { createHash, generateKeyPairSync, randomUUID } from "node:crypto";
import { connect } from "node:net";
import {
  connectionIdSchema,
  serverIdSchema,
  sessionIdSchema,
  type SessionConnection,
  type SessionGrant,
} from "@farpool/contract";
import { generateSigningKey, routingToken } from "@farpool/identity";
import { readClaims, signSessionGrant } from "@farpool/identity/grants";
import { temporaryFolder } from "@farpool/testkit";
import { compactVerify, decodeProtectedHeader, importJWK } from "jose";
import { expect, onTestFinished, test } from "vitest";
import { startBroker, type Broker } from "./broker.ts";
import { processInfo } from "./processes.ts";

const SECRET = "5a".repeat(32);
const sessionId = sessionIdSchema.parse("s-7f3k2m9q");
const serverId = serverIdSchema.parse(randomUUID());
const manager = generateSigningKey();
const clientKey = generateSigningKey();

async function grantFor(validSeconds: number): Promise<SessionGrant> {
  const signedAt = Math.floor(Date.now() / 1_000) - (900 - validSeconds);
  const claims = { poolId: randomUUID(), sessionId, serverId, client: clientKey.thumbprint, signedAt };
  return { grant: await signSessionGrant(manager, claims), validSeconds };
}

async function start(changes: Partial<SessionConnection> = {}, renew = () => grantFor(900)): Promise<Broker> {
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
}

const hello = ({ pid = process.pid, key = shimKey(), connection }: Ask = {}): string =>
  [
    "farpool-broker 2",
    `pid ${pid}`,
    "program train",
    `key ${key}`,
    ...(connection === undefined ? [] : [`connection ${connection}`]),
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

import { fork, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@farpool/client-api";
import { ERRORS, errorBodySchema, serverIdSchema, TIMES } from "@farpool/contract";
import { fakeInventory, GIB, startTestServer, temporaryFolder, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createRandom } from "../testing/fuzz/random.ts";
import { createRequests, type FuzzRequest } from "../testing/fuzz/requests.ts";
import { send, type FuzzAnswer } from "../testing/fuzz/send.ts";
import { createValues } from "../testing/fuzz/values.ts";
import { ask } from "../testing/pool.ts";
import { openApiDocument } from "./openapi.ts";

/** Both from outside: `FARPOOL_FUZZ_SECONDS=600 FARPOOL_FUZZ_SEED=7` looks longer, and elsewhere. */
const SECONDS = Number(process.env["FARPOOL_FUZZ_SECONDS"] ?? 15);
const SEED = Number(process.env["FARPOOL_FUZZ_SEED"] ?? 1);
const AT_ONCE = 6;
/** Longer than any answer that is not a long poll, which fuzzing keeps short, or a stream. */
const TIMEOUT_MS = 20_000;
const STREAM_MS = 100;
/** Caches fill and code is compiled for a while: growth counts from a third of the time on. */
const MOST_GROWTH_BYTES = 24 * 1024 * 1024;

const folder = temporaryFolder();
const socketPath = join(folder.path, "manager.sock");
const serverId = serverIdSchema.parse(randomUUID());
const client = createClient({ kind: "unix", path: socketPath });
let postgres: TestServer;
let manager: ChildProcess;
let log = "";

beforeAll(async () => {
  postgres = await startTestServer();
  const options = {
    connection: await postgres.createDatabase(),
    databaseKind: "external",
    socketPath,
    tcp: null,
    tokenFile: join(folder.path, "token"),
    graceMs: TIMES.graceMs,
  };
  manager = fork(
    fileURLToPath(new URL("../testing/fuzz/manager-process.ts", import.meta.url)),
    [JSON.stringify(options)],
    { execArgv: ["--expose-gc"], silent: true },
  );
  for (const stream of [manager.stdout, manager.stderr]) {
    stream?.setEncoding("utf8").on("data", (text: string) => {
      log += text;
    });
  }
  await once(manager, "message");
});
afterAll(async () => {
  client.close();
  manager.kill("SIGKILL");
  await postgres.stop();
  folder[Symbol.dispose]();
});

async function memory(): Promise<number> {
  manager.send({});
  const [{ bytes }] = (await once(manager, "message")) as [{ bytes: number }];
  return bytes;
}

/** A server and sessions that live on under the fuzzer's hands, so that ids can be right. */
async function keepPool(): Promise<string[]> {
  const gpus = [0, 1].map((index) => ({
    uuid: `GPU-${serverId}-${index}`,
    name: "Test GPU",
    memoryTotalBytes: 16 * GIB,
  }));
  const endpoints = [{ kind: "tcp" as const, host: "127.0.0.1", port: 7445 }];
  const body = { serverId, name: "gpu-01", version: "0.1.0", endpoints, inventory: fakeInventory(gpus) };
  await client.call("registerAgent", { body });
  await client.call("heartbeatAgent", {
    params: { serverId },
    body: { inventory: null, acceptorReady: true },
  });
  const session = await ask(client, 1, { size: { kind: "share", share: 0.01 } });
  return [session.id];
}

/** Everything that is allowed to be said to a request, whatever it was. */
function judge(request: FuzzRequest, answer: FuzzAnswer): string | undefined {
  const { status, body, isTimedOut } = answer;
  if (isTimedOut && !/\/hold\b/.test(request.title)) return "no answer in time";
  // Who sends half a request and goes is owed none; HEAD and 204 have no body.
  if (status === undefined)
    return request.isCut || isTimedOut ? undefined : "the connection ended without an answer";
  if (status < 400) return undefined;
  if (status >= 500) return `status ${status}: ${body.slice(0, 300)}`;
  if (request.title.startsWith('"HEAD ')) return undefined;
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return `status ${status} without the error format: ${body.slice(0, 300)}`;
  }
  const error = errorBodySchema.safeParse(parsed);
  if (!error.success) return `status ${status} without the error format: ${body.slice(0, 300)}`;
  const { code, message } = error.data.error;
  if (ERRORS[code].httpStatus !== status && ![408, 413, 417, 431].includes(status))
    return `${code} came with status ${status}`;
  if (message.length < 8 || message.length > 2_000) return `no sentence: '${message.slice(0, 300)}'`;
  return /\p{Cc}/u.test(message) ? `control characters in '${message}'` : undefined;
}

test(
  `whatever is sent to any route gets a sentence, never a crash (seed ${SEED}, ${SECONDS} s)`,
  async () => {
    const random = createRandom(SEED);
    const document = openApiDocument();
    let sessions = await keepPool();
    const known = (name: string): string | undefined => {
      if (random.oneIn(5)) return undefined;
      if (name === "SessionId" || name === "sessionId") return sessions[random.below(sessions.length)];
      return name === "ServerId" || name === "serverId" ? serverId : undefined;
    };
    const next = createRequests(document, random, createValues(random, document.components.schemas, known));
    const findings = new Map<string, string>();
    const counts = new Map<string, number>();
    const started = Date.now();
    const elapsed = (): number => (Date.now() - started) / 1_000;
    let [sent, warm] = [0, 0];

    const attack = async (): Promise<void> => {
      while (elapsed() < SECONDS && findings.size < 10 && manager.exitCode === null) {
        const request = next();
        sent += 1;
        const answer = await send(
          socketPath,
          request,
          request.title.includes("/hold") ? STREAM_MS : TIMEOUT_MS,
        );
        const status = String(answer.status ?? "none");
        counts.set(status, (counts.get(status) ?? 0) + 1);
        const finding = judge(request, answer);
        if (finding !== undefined) findings.set(finding, request.title);
        if (sent % 1_000 === 0) sessions = await keepPool().catch(() => sessions);
        if (warm === 0 && elapsed() > SECONDS / 3) warm = await memory();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, attack));

    expect(manager.exitCode).toBeNull();
    expect({ findings: Object.fromEntries(findings), log: log.slice(0, 4_000) }).toEqual({
      findings: {},
      log: "",
    });
    await client.call("status", {});
    const grown = (await memory()) - warm;
    console.log(
      `${sent} requests, answers ${JSON.stringify(Object.fromEntries([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1))))}, memory ${(grown / 2 ** 20).toFixed(1)} MiB more`,
    );
    expect(grown).toBeLessThan(MOST_GROWTH_BYTES);
  },
  (SECONDS + 60) * 1_000,
);

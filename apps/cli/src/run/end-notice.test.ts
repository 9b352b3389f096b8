import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { connectionIdSchema, sessionIdSchema, type Endpoint } from "@farpool/contract";
import { temporaryFolder } from "@farpool/testkit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { endPreface, sendEndNotice, type EndNotice } from "./end-notice.ts";

const secret = "5a".repeat(32);
const sessionId = sessionIdSchema.parse("s-0123456789ab");
const connectionId = connectionIdSchema.parse("00112233445566778899aabbccddeeff");

let folder: ReturnType<typeof temporaryFolder>;
let servers: Server[];
let prefaces: Buffer[];

beforeEach(() => {
  folder = temporaryFolder();
  [servers, prefaces] = [[], []];
});
afterEach(() => {
  for (const server of servers) server.close();
  folder[Symbol.dispose]();
});

/** An acceptor: it reads the 96 bytes and gives its answers one after the other, the last one for ever. */
async function listen(answers: readonly Buffer[], where?: string): Promise<Endpoint> {
  let next = 0;
  const server = createServer((socket) => {
    let received = Buffer.alloc(0);
    socket.on("error", () => undefined);
    socket.on("data", (data) => {
      received = Buffer.concat([received, data]);
      if (received.length < 96) return;
      prefaces.push(received);
      const answer = answers[Math.min(next++, answers.length - 1)];
      if (answer !== undefined) socket.end(answer);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => {
    if (where === undefined) server.listen(0, "127.0.0.1", resolve);
    else server.listen(where, resolve);
  });
  if (where !== undefined) return { kind: "unix", path: where };
  return { kind: "tcp", host: "127.0.0.1", port: (server.address() as AddressInfo).port };
}

function notice(endpoints: readonly Endpoint[], more: Partial<EndNotice> = {}): EndNotice {
  return {
    sessionId,
    connectionId,
    connection: { secret, endpoints: [...endpoints] },
    graceMs: 10_000,
    ...more,
  };
}

/** As native/transport/src/lane writes it. */
function refused(code: number, reason: string): Buffer {
  const text = Buffer.from(reason);
  const frame = Buffer.alloc(8 + 4 + text.length);
  frame.writeUInt32LE(8, 0);
  frame.writeUInt32LE(4 + text.length, 4);
  frame.writeInt32LE(code, 8);
  text.copy(frame, 12);
  return frame;
}

const told = Buffer.from([1]);
const nowhere = (): Endpoint => ({ kind: "unix", path: join(folder.path, "nowhere") });

describe("the preface of an end", () => {
  test("names session and connection and carries the end token", () => {
    const preface = endPreface(notice([]));

    expect(preface).toHaveLength(96);
    expect(preface.subarray(0, 8).toString()).toBe("FARPOOL1");
    expect(preface.readUInt32LE(12)).toBe(4);
    expect(preface.subarray(16, 48).toString().replaceAll("\0", "")).toBe(sessionId);
    expect(preface.subarray(48, 64).toString("hex")).toBe(connectionId);
    const signed = Buffer.concat([Buffer.from("farpool end"), Buffer.from(connectionId, "hex")]);
    const token = createHmac("sha256", Buffer.from(secret, "hex")).update(signed).digest();
    expect(preface.subarray(64)).toEqual(token);
  });

  test("has the wire format that acceptors know", () => {
    const source = readFileSync(new URL("../../../../native/wire/src/record.rs", import.meta.url), "utf8");

    const known = /pub const WIRE_FORMAT: u32 = (\d+);/.exec(source)?.[1];
    expect(endPreface(notice([])).readUInt32LE(8)).toBe(Number(known));
  });
});

describe("an end", () => {
  test("is told over a Unix socket and over TCP", async () => {
    const endpoints = [await listen([told]), await listen([told], join(folder.path, "data"))];

    for (const endpoint of endpoints) {
      expect(await sendEndNotice(notice([endpoint]))).toEqual({ kind: "told" });
    }
    expect(prefaces).toEqual([endPreface(notice([])), endPreface(notice([]))]);
  });

  test("goes to the first endpoint that answers, once", async () => {
    const endpoints = [nowhere(), await listen([told]), await listen([told])];

    expect(await sendEndNotice(notice(endpoints))).toEqual({ kind: "told" });
    expect(prefaces).toHaveLength(1);
  });

  test("waits for an acceptor that is away", async () => {
    const path = join(folder.path, "data");
    const sent = sendEndNotice(notice([{ kind: "unix", path }]));

    await new Promise((resolve) => setTimeout(resolve, 300));
    await listen([told], path);

    expect(await sent).toEqual({ kind: "told" });
  });

  test("is said again to an acceptor that was not ready, or closed without an answer", async () => {
    const endpoint = await listen([refused(802, "too many connections"), Buffer.alloc(0), told]);

    expect(await sendEndNotice(notice([endpoint]))).toEqual({ kind: "told" });
    expect(prefaces).toHaveLength(3);
  });

  test("is not said again when it is refused", async () => {
    const endpoint = await listen([refused(100, 'session "s" is not known')]);

    const outcome = await sendEndNotice(notice([endpoint]));

    expect(outcome).toMatchObject({
      kind: "refused",
      reason: expect.stringContaining('session "s"') as unknown,
    });
    expect(prefaces).toHaveLength(1);
  });

  test("to something that is no acceptor is refused", async () => {
    const endpoint = await listen([Buffer.from("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")]);

    expect(await sendEndNotice(notice([endpoint]))).toEqual({
      kind: "refused",
      reason: "what answers does not speak Farpool's protocol",
    });
  });

  test("is given up when the time of grace is over, and when nobody wants it any more", async () => {
    expect(await sendEndNotice(notice([nowhere()], { graceMs: 250 }))).toEqual({
      kind: "unanswered",
      reason: expect.stringContaining("nowhere") as unknown,
    });

    const silent: Socket[] = [];
    const server = createServer((socket) => void silent.push(socket)).listen(join(folder.path, "silent"));
    servers.push(server);
    const leaving = new AbortController();
    const endpoints: Endpoint[] = [{ kind: "unix", path: join(folder.path, "silent") }];
    const sent = sendEndNotice(notice(endpoints, { signal: leaving.signal }));
    await new Promise<void>((resolve) => server.once("connection", () => resolve()));
    leaving.abort();
    expect(await sent).toEqual({ kind: "unanswered", reason: "it was given up" });
    for (const socket of silent) socket.destroy();
  });
});

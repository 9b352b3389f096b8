import { createHash, randomBytes } from "node:crypto";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { planCuts } from "./cutting-proxy/random.ts";
import { startCuttingProxy, type CuttingProxy } from "./cutting-proxy.ts";
import { temporaryFolder } from "./folders.ts";
import { waitFor } from "./wait.ts";

/** What one end of a connection saw. */
class End {
  readonly socket: Socket;
  received = 0;
  readonly hash = createHash("sha256");
  ended = false;
  closed = false;
  error: string | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (bytes) => {
      this.received += bytes.length;
      this.hash.update(bytes);
    });
    socket.on("end", () => (this.ended = true));
    socket.on("close", () => (this.closed = true));
    socket.on("error", (error: NodeJS.ErrnoException) => (this.error = error.code));
  }
}

let server: Server;
let proxy: CuttingProxy;
let served: End[];
let clients: End[];

beforeEach(async () => {
  [served, clients] = [[], []];
  server = createServer({ allowHalfOpen: true }, (socket) => served.push(new End(socket)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  proxy = await startCuttingProxy({ target: { host: "127.0.0.1", port }, setBufferSizes });
});
afterEach(async () => {
  for (const { socket } of [...served, ...clients]) socket.destroy();
  await proxy.close();
  server.close();
});

/** As @farpool/os does it: this package is below that one. */
function setBufferSizes(
  socket: Socket | Server,
  { receiveBytes, sendBytes }: { readonly receiveBytes: number; readonly sendBytes: number },
): void {
  const path = fileURLToPath(new URL("../../../dist/lib/farpool-os.node", import.meta.url));
  const addOn = createRequire(import.meta.url)(path) as {
    setBufferSizes(descriptor: number, receiveBytes: number, sendBytes: number): void;
  };
  const { fd } = (socket as unknown as { readonly _handle: { readonly fd: number } })._handle;
  addOn.setBufferSizes(fd, receiveBytes, sendBytes);
}

/** A connection through the proxy that has carried a byte each way. */
async function open(port = proxy.port): Promise<readonly [End, End]> {
  const count = served.length;
  const client = new End(connect({ host: "127.0.0.1", port, allowHalfOpen: true }));
  clients.push(client);
  client.socket.write("?");
  const serverEnd = await waitFor("the server's end", () => served[count]);
  serverEnd.socket.write("!");
  await waitFor("both bytes", () => (client.received + serverEnd.received === 2 ? true : undefined));
  return [client, serverEnd];
}

const until = (what: string, isSo: () => boolean): Promise<boolean> =>
  waitFor(what, () => (isSo() ? true : undefined));
const pause = (ms = 150): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const bytes = randomBytes;
const digest = (data: Buffer): string => createHash("sha256").update(data).digest("hex");

describe("a proxy that cuts nothing", () => {
  test("forwards both directions, half-closed too, and knows how much", async () => {
    const [client, serverEnd] = await open();
    const data = bytes(3_000_000);

    client.socket.end(data);
    await until("the client's end", () => serverEnd.ended);
    expect(client.closed).toBe(false);
    serverEnd.socket.end(data);
    await until("the server's end", () => client.ended && client.closed && serverEnd.closed);

    expect([client.received, serverEnd.received]).toEqual([3_000_001, 3_000_001]);
    expect(serverEnd.hash.digest("hex")).toBe(digest(Buffer.concat([Buffer.from("?"), data])));
    expect(proxy.connections[0]?.forwardedBytes).toEqual({ up: 3_000_001, down: 3_000_001 });
    await until("its end", () => proxy.connections[0]?.isOpen === false);
    expect(client.error ?? serverEnd.error).toBeUndefined();
  });

  test("reaches a target by its path", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "target");
    const unixServer = createServer((socket) => socket.pipe(socket)).listen(path);
    await using other = await startCuttingProxy({ target: { path } });
    const client = new End(connect(other.port, other.host));
    clients.push(client);

    client.socket.end("there and back");
    await until("the end", () => client.ended);
    expect(client.received).toBe(14);
    unixServer.close();
  });

  test("passes on a reset", async () => {
    const [client, serverEnd] = await open();
    client.socket.resetAndDestroy();
    expect(await until("the reset", () => serverEnd.error === "ECONNRESET")).toBe(true);
  });

  test("resets a client whose target is not there", async () => {
    server.close();
    const client = new End(connect(proxy.port, "127.0.0.1"));
    clients.push(client);
    expect(await until("the reset", () => client.error === "ECONNRESET")).toBe(true);
  });

  test("does not forward faster than the other side reads", async () => {
    const [client, serverEnd] = await open();
    serverEnd.socket.pause();
    client.socket.write(Buffer.alloc(64 << 20));
    await pause(300);
    // What does not fit into the buffers of the kernel waits at the client.
    expect(client.socket.writableLength).toBeGreaterThan(16 << 20);
    serverEnd.socket.resume();
    await until("all of it", () => serverEnd.received === 1 + (64 << 20));
  });

  test("carries much", async () => {
    const [client, serverEnd] = await open();
    const [chunk, count] = [Buffer.alloc(1 << 20), 400];
    let received = 0;
    serverEnd.socket.removeAllListeners("data").on("data", ({ length }) => (received += length));
    const startedAt = performance.now();
    for (let index = 0; index < count; index++) client.socket.write(chunk);
    expect(await until("all of it", () => received === count * chunk.length)).toBe(true);
    const perSecond = Math.round((count / (performance.now() - startedAt)) * 1000);
    console.log(`${perSecond} MiB/s, with both ends in this process`);
  });
});

describe("a cut", () => {
  test.each([
    ["reset", "reset", "reset"],
    ["reset-client", "reset", "nothing"],
    ["reset-target", "nothing", "reset"],
    ["finish", "end", "end"],
    ["finish-client", "end", "nothing"],
    ["finish-target", "nothing", "end"],
    ["silence", "nothing", "nothing"],
  ] as const)("%s: the client sees %s, the target %s", async (kind, atClient, atTarget) => {
    const [client, serverEnd] = await open();
    const saw = (end: End): string => (end.error === "ECONNRESET" ? "reset" : end.ended ? "end" : "nothing");

    expect(proxy.cut(kind)).toBe(1);
    expect(proxy.cut(kind)).toBe(0);
    await until("what they see", () => saw(client) === atClient && saw(serverEnd) === atTarget);
    if (!client.closed) client.socket.write("late");
    if (!serverEnd.closed) serverEnd.socket.write("late");
    await pause();

    expect([saw(client), saw(serverEnd)]).toEqual([atClient, atTarget]);
    expect([client.received, serverEnd.received]).toEqual([1, 1]);
    expect(proxy.connections[0]).toMatchObject({ isOpen: false, cutBy: kind });
  });

  test("of one lane leaves the others", async () => {
    const lanes = [await open(), await open(), await open()];

    expect(proxy.cut("reset", { lane: 1 })).toBe(1);
    await until("the reset", () => lanes[1]?.[0].error === "ECONNRESET");
    for (const [client] of lanes) if (!client.closed) client.socket.write("more");
    await until("the bytes", () => lanes[0]?.[1].received === 5 && lanes[2]?.[1].received === 5);

    expect(proxy.connections.map(({ isOpen }) => isOpen)).toEqual([true, false, true]);
    expect(() => proxy.cut("reset", { lane: 3 })).toThrow(
      "the proxy has had 3 connections, none with the number 3",
    );
  });

  test.each(["up", "down"] as const)("in the middle of a frame that goes %s", async (direction) => {
    const [client, serverEnd] = await open();
    const [from, to] = direction === "up" ? [client, serverEnd] : [serverEnd, client];
    const happened = proxy.cutAfter({ bytes: 12_345, direction, lane: 0 });
    // The other direction does not count.
    to.socket.write(bytes(50_000));
    await until("the other direction", () => from.received === 50_001);

    from.socket.write(bytes(40_000));
    expect((await happened).lane).toBe(0);
    await until("the reset", () => to.error === "ECONNRESET" && from.error === "ECONNRESET");

    expect(to.received).toBe(1 + 12_345);
  });

  test("after bytes of all lanes hits the one that carried the last", async () => {
    const [[first], [second]] = [await open(), await open()];
    const happened = proxy.cutAfter({ bytes: 1000 });
    first.socket.write(bytes(600));
    await until("these", () => proxy.connections[0]?.forwardedBytes.up === 601);
    second.socket.write(bytes(600));

    expect((await happened).lane).toBe(1);
    await until("the reset", () => second.error === "ECONNRESET");
    expect(proxy.connections[1]?.forwardedBytes.up).toBe(401);
    expect(first.error).toBeUndefined();
    expect(() => proxy.cutAfter({ bytes: 0 })).toThrow("at least 1 passes");
  });

  test("during an attach hits the next new connection", async () => {
    const [existing] = await open();
    const happened = proxy.cutAttach({ bytes: 40, direction: "up", kind: "finish" });
    existing.socket.write(bytes(100));
    const client = new End(connect(proxy.port, "127.0.0.1"));
    clients.push(client);
    client.socket.write(bytes(96));

    expect((await happened).lane).toBe(1);
    await until("the end", () => client.ended && served[1]?.ended === true);
    expect(served[1]?.received).toBe(40);
    expect(existing.ended).toBe(false);
    const [later] = await open();
    expect(later.ended).toBe(false);
  });
});

describe("a black hole", () => {
  test("swallows both directions and new connections until it is healed", async () => {
    const [client, serverEnd] = await open();
    const over = proxy.blackhole();
    client.socket.write("up");
    serverEnd.socket.write("down");
    const late = new End(connect(proxy.port, "127.0.0.1"));
    clients.push(late);
    late.socket.write("hello");
    await pause();
    expect([client.received, serverEnd.received, served.length]).toEqual([1, 1, 1]);

    proxy.heal();
    await over;
    await until("what was held", () => client.received === 5 && serverEnd.received === 3);
    await until("the new one", () => served[1]?.received === 5);
    expect(proxy.connections.every(({ isOpen }) => isOpen)).toBe(true);
  });

  test("hides what happens meanwhile", async () => {
    const [[client, serverEnd], [gone, left]] = [await open(), await open()];
    const over = proxy.blackhole();
    client.socket.end("last words");
    gone.socket.resetAndDestroy();
    await pause();
    expect([serverEnd.ended, left.error]).toEqual([false, undefined]);

    proxy.heal();
    await over;
    await until("the end", () => serverEnd.ended && serverEnd.received === 11);
    await until("the reset", () => left.error === "ECONNRESET");
  });

  test("ends by itself, each one by its own time", async () => {
    await proxy.blackhole(30);
    const second = proxy.blackhole();
    proxy.heal();
    await second;
    const [client, serverEnd] = await open();
    client.socket.write("more");
    expect(await until("the bytes", () => serverEnd.received === 5)).toBe(true);
  });

  test("may be cut in", async () => {
    const [client, serverEnd] = await open();
    void proxy.blackhole();
    proxy.cut("reset");
    await until("both resets", () => client.error === "ECONNRESET" && serverEnd.error === "ECONNRESET");
    proxy.heal();
    const [later] = await open();
    expect(later.error).toBeUndefined();
  });
});

describe("another address", () => {
  test("is reached, and the old one is not", async () => {
    const [client] = await open();
    const before = proxy.port;

    const after = await proxy.move();

    await until("the reset", () => client.error === "ECONNRESET");
    const refused = new End(connect(before, "127.0.0.1"));
    await until("the refusal", () => refused.error === "ECONNREFUSED");
    expect(after).not.toBe(before);
    expect(proxy.port).toBe(after);
    const [kept, keptServer] = await open(after);
    await proxy.move({ keepConnections: true });
    kept.socket.write("more");
    await until("more", () => keptServer.received === 5);
  });
});

describe("a link", () => {
  test("that is slow holds little, and passes on all of it in time", async () => {
    const [client, serverEnd] = await open();
    const small = { receiveBytes: 16_384, sendBytes: 16_384 };
    setBufferSizes(client.socket, small);
    proxy.shape({ bytesPerSecond: 20_000, bufferBytes: 50_000 });
    const data = bytes(600_000);
    client.socket.end(data);
    await pause(300);
    // Half a minute would have to pass before this is not so.
    expect(client.socket.writableLength).toBe(600_000);
    expect(serverEnd.received).toBeLessThan(300_000);

    proxy.shape({ bytesPerSecond: 1_000_000, bufferBytes: 50_000 });
    const startedAt = performance.now();
    const left = 600_001 - serverEnd.received;
    await until("the end", () => serverEnd.ended);
    expect(performance.now() - startedAt).toBeGreaterThan(left / 1000 / 2);
    expect(serverEnd.hash.digest("hex")).toBe(digest(Buffer.concat([Buffer.from("?"), data])));
  });

  test("that is long delays each byte and loses none, also when it becomes short again", async () => {
    const [client, serverEnd] = await open();
    proxy.shape({ delayMs: 200 });
    const startedAt = performance.now();
    client.socket.write("?");
    await until("it", () => serverEnd.received === 2);
    expect(performance.now() - startedAt).toBeGreaterThan(195);

    proxy.shape({ delayMs: 1500 });
    const data = bytes(500_000);
    client.socket.write(data);
    await pause();
    expect(serverEnd.received).toBe(2);
    proxy.shape();
    client.socket.end("!");
    await until("the end", () => serverEnd.ended);
    expect(serverEnd.hash.digest("hex")).toBe(
      digest(Buffer.concat([Buffer.from("??"), data, Buffer.from("!")])),
    );
  });

  test("that is slow may be cut in the middle of a frame", async () => {
    proxy.shape({ bytesPerSecond: 2_000_000 });
    const [client, serverEnd] = await open();
    const happened = proxy.cutAfter({ bytes: 123_457, direction: "up", kind: "finish" });
    client.socket.write(bytes(400_000));

    await happened;
    await until("the end", () => serverEnd.ended);
    expect(serverEnd.received).toBe(123_458);
  });

  test("is not slow without small buffers", async () => {
    await using other = await startCuttingProxy({ target: { host: "127.0.0.1", port: 1 } });
    expect(() => other.shape({ bytesPerSecond: 1000 })).toThrow("needs the option setBufferSizes");
  });
});

describe("random cuts", () => {
  test("are the same for the same seed", () => {
    const options = {
      count: 200,
      kinds: ["reset", "finish", "blackhole"],
      everyBytes: 1000,
      blackholeMs: [10, 20],
    } as const;
    const plan = planCuts({ ...options, seed: 7 });

    expect(planCuts({ ...options, seed: 7 })).toEqual(plan);
    expect(planCuts({ ...options, seed: 8 })).not.toEqual(plan);
    // On every machine and in every version: a failure is repeated by its seed.
    expect(plan.slice(0, 3)).toMatchInlineSnapshot(`
      [
        {
          "afterBytes": 124,
          "durationMs": 20,
          "kind": "reset",
        },
        {
          "afterBytes": 1043,
          "durationMs": 14,
          "kind": "blackhole",
        },
        {
          "afterBytes": 480,
          "durationMs": 16,
          "kind": "finish",
        },
      ]
    `);
    const total = plan.reduce((sum, { afterBytes }) => sum + afterBytes, 0);
    expect(total / 200).toBeGreaterThan(800);
    expect(total / 200).toBeLessThan(1200);
    expect(new Set(plan.map(({ kind }) => kind))).toEqual(new Set(options.kinds));
    expect(plan.every(({ durationMs }) => durationMs >= 10 && durationMs <= 20)).toBe(true);
  });

  /** Sends until all cuts have happened, on a new connection after each; answers what each one carried. */
  async function run(seed: number): Promise<readonly string[]> {
    const first = proxy.connections.length;
    const cuts = proxy.randomCuts({
      ...{ seed, count: 12, everyBytes: 30_000 },
      kinds: ["reset", "finish-client", "reset-target"],
    });
    while (cuts.happened.length < 12) {
      const count = proxy.connections.length;
      const client = new End(connect(proxy.port, "127.0.0.1"));
      clients.push(client);
      client.socket.write(bytes(70_000));
      await until("the cut", () => proxy.connections[count]?.isOpen === false);
    }
    await cuts.over;
    const carried = proxy.connections.slice(first).map(({ forwardedBytes }) => forwardedBytes.up);
    expect(carried).toEqual(cuts.happened.map(({ afterBytes }) => afterBytes));
    return cuts.happened.map(({ kind, afterBytes, lane }) => `${lane - first} ${kind} ${afterBytes}`);
  }

  test("happen where they were planned, every time", async () => {
    const [first, second] = [await run(42), await run(42)];
    expect(first).toHaveLength(12);
    expect(second).toEqual(first);
  });

  test("may be black holes, after which it goes on", async () => {
    const [client, serverEnd] = await open();
    const cuts = proxy.randomCuts({
      ...{ seed: 5, count: 8, kinds: ["blackhole"], everyBytes: 10_000, blackholeMs: [5, 30] },
    });
    const data = bytes(200_000);
    client.socket.end(data);

    await until("the end", () => serverEnd.ended);
    expect(serverEnd.hash.digest("hex")).toBe(digest(Buffer.concat([Buffer.from("?"), data])));
    expect(cuts.happened).toHaveLength(8);
  });

  test("stop when they are told to", async () => {
    const [client, serverEnd] = await open();
    const cuts = proxy.randomCuts({ seed: 1, count: 5, kinds: ["reset"], everyBytes: 100 });
    cuts.stop();
    await cuts.over;
    client.socket.write(bytes(10_000));
    await until("the bytes", () => serverEnd.received === 10_001);
    expect(cuts.happened).toEqual([]);
  });

  test("hit all connections, or one", async () => {
    const [[first], [second]] = [await open(), await open()];
    const cuts = proxy.randomCuts({ seed: 3, count: 2, kinds: ["reset"], everyBytes: 50, hits: "one" });
    first.socket.write(bytes(200));
    await until("the cut", () => first.error === "ECONNRESET");
    expect([cuts.happened.length, second.error]).toEqual([1, undefined]);
    const [third] = await open();
    second.socket.write(bytes(200));
    await cuts.over;
    expect(cuts.happened.map(({ lane }) => lane)).toEqual([0, 1]);
    expect(third.error).toBeUndefined();
  });
});

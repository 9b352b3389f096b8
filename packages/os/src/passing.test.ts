import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readlinkSync, readSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { startProgram, temporaryFolder, waitFor } from "@farpool/testkit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { descriptorOf } from "./descriptor.ts";
import { listenTcp, listenUnix, localPort } from "./listening.ts";
import { receiveDescriptors, sendDescriptors } from "./passing.ts";

let folder: ReturnType<typeof temporaryFolder>;
let server: Server | undefined;
const started: ChildProcess[] = [];
const sockets: Socket[] = [];

beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  for (const socket of sockets.splice(0)) socket.destroy();
  server?.close();
  server = undefined;
  folder[Symbol.dispose]();
});

/** A Node process with this package in `os` that runs `script`; `stdio` are its descriptors from 3 on. */
function startWithPackage(
  script: string,
  stdio: readonly (number | Socket)[] = [],
): ReturnType<typeof output> {
  const source = new URL("./index.ts", import.meta.url).href;
  const text = `const os = await import(${JSON.stringify(source)}); ${script}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", text], {
    stdio: ["ignore", "pipe", "inherit", ...stdio],
  });
  started.push(child);
  return output(child);
}

function output(child: ChildProcess): { readonly child: ChildProcess; readonly text: () => string } {
  let text = "";
  child.stdout?.setEncoding("utf8").on("data", (more: string) => (text += more));
  return { child, text: () => text };
}

/** Two ends of a connection. Node reads neither: nobody listens to their data. */
async function connection(): Promise<readonly [Socket, Socket]> {
  const path = join(folder.path, "pair");
  const accepted = new Promise<Socket>((resolve) => {
    server = createServer({ pauseOnConnect: true }, resolve).listen(path);
  });
  const one = connect(path);
  const other = await accepted;
  sockets.push(one, other);
  return [one, other];
}

describe("descriptors over a Unix socket", () => {
  test("reach another process open, with their bytes", async () => {
    const [one, other] = await connection();
    const file = join(folder.path, "file");
    writeFileSync(file, "what the file says");
    const descriptor = openSync(file, "r");
    const child = startWithPackage(
      `const { readSync, fstatSync } = await import("node:fs");
       const { bytes, descriptors } = await os.receiveDescriptors(3, 100);
       const buffer = Buffer.alloc(100);
       const length = readSync(descriptors[0], buffer);
       const text = buffer.subarray(0, length).toString();
       console.log(JSON.stringify([bytes.toString(), descriptors.length, text, fstatSync(descriptors[0]).ino]));`,
      [other],
    );

    await sendDescriptors(one, Buffer.from("take this"), [descriptor]);

    const said = await waitFor("what the child received", () => child.text() || undefined);
    expect(JSON.parse(said)).toEqual(["take this", 1, "what the file says", fstatSync(descriptor).ino]);
    // It is one open file: what the other process read is behind us, too.
    expect(readSync(descriptor, Buffer.alloc(10))).toBe(0);
    closeSync(descriptor);
  });

  test("arrive from another process, and the end of its stream too", async () => {
    const [, other] = await connection();
    const [one] = sockets as [Socket, Socket];
    const child = startWithPackage(
      `const { openSync } = await import("node:fs");
       await os.sendDescriptors(3, Buffer.alloc(3_000_000, 7), [openSync("/dev/zero"), 1]);`,
      [one],
    );
    one.destroy();

    let length = 0;
    const received: number[] = [];
    for (;;) {
      const part = await receiveDescriptors(descriptorOf(other), 65_536);
      if (part.bytes.length === 0) break;
      length += part.bytes.length;
      received.push(...part.descriptors);
      expect(part.bytes.every((byte) => byte === 7)).toBe(true);
    }

    expect(length).toBe(3_000_000);
    expect(received).toHaveLength(2);
    const [zero = -1, itsStdout = -1] = received;
    expect(readSync(zero, Buffer.alloc(16))).toBe(16);
    for (const each of [zero, itsStdout]) closeSync(each);
    await waitFor("its end", () => (child.child.exitCode === null ? undefined : true));
  });

  test("are waited for until somebody gives up", async () => {
    const [one] = await connection();
    const giveUp = new AbortController();

    const waiting = receiveDescriptors(descriptorOf(one), 10, giveUp.signal);
    giveUp.abort(new Error("enough"));

    await expect(waiting).rejects.toThrow("enough");
    await expect(receiveDescriptors(descriptorOf(one), 0)).rejects.toThrow("at most 0 bytes");
    await expect(sendDescriptors(one, Buffer.alloc(0), [0])).rejects.toMatchObject({ code: "EINVAL" });
    await expect(sendDescriptors(one, Buffer.from("x"), [99_999])).rejects.toMatchObject({ code: "EBADF" });
  });
});

describe("a listening socket", () => {
  test("outlives the process that serves it", async () => {
    const held = listenTcp("127.0.0.1", 0);
    const port = localPort(held);
    const serve = (name: string): ReturnType<typeof startWithPackage> =>
      startWithPackage(
        `const { createServer } = await import("node:net");
         createServer((socket) => socket.end("${name}")).listen({ fd: 3 }, () => console.log("serves"));`,
        [held],
      );
    const ask = (): Promise<string> =>
      new Promise((resolve, reject) => {
        let answer = "";
        const socket = connect(port, "127.0.0.1").on("error", reject);
        socket.on("data", (data) => (answer += data.toString())).on("close", () => resolve(answer));
      });

    const first = serve("first");
    await waitFor("the first server", () => first.text() || undefined);
    expect(await ask()).toBe("first");
    first.child.kill("SIGKILL");
    await waitFor("its end", () => (first.child.signalCode === null ? undefined : true));
    // Nobody serves now, and yet the connection is taken: it waits for the next server.
    const waiting = ask();
    const second = serve("second");
    expect(await waiting).toBe("second");

    second.child.kill("SIGKILL");
    closeSync(held);
  });

  test("is not inherited by accident", async () => {
    const held = listenTcp("127.0.0.1", 0);
    const itself = readlinkSync(`/proc/self/fd/${held}`);

    const { stdout } = await startProgram(["ls", "-l", "/proc/self/fd"], process.env).ended;

    closeSync(held);
    expect(itself).toMatch(/^socket:/);
    expect(stdout).toContain("/proc/");
    expect(stdout).not.toContain(itself);
  });

  test("has the mode that was asked for, and its path says so", () => {
    const path = join(folder.path, "listening");

    const held = listenUnix(path, 0o660);

    expect(fstatSync(openPath(path)).mode & 0o777).toBe(0o660);
    expect(() => listenUnix(path, 0o600)).toThrow(
      expect.objectContaining({ code: "EADDRINUSE", message: expect.stringContaining(path) as unknown }),
    );
    expect(() => listenTcp("localhost", 0)).toThrow("'localhost' is not an IP address to listen on");
    closeSync(held);
  });
});

/** A socket's file cannot be opened for anything but its properties. */
function openPath(path: string): number {
  const onlyPath = 0o10000000;
  return openSync(path, onlyPath);
}

import type { ChildProcess } from "node:child_process";
import { closeSync, readFileSync, readdirSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { startProgram, temporaryFolder, waitFor } from "@farpool/testkit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { descriptorOf } from "./descriptor.ts";
import { peerCredentials, peerPidfd, processHasEnded, processStart, watchProcess } from "./processes.ts";

let folder: ReturnType<typeof temporaryFolder>;
let server: Server;
let accepted: Socket[];
let path: string;
const started: ChildProcess[] = [];

beforeEach(async () => {
  folder = temporaryFolder();
  path = join(folder.path, "socket");
  accepted = [];
  server = createServer((socket) => {
    socket.on("error", () => undefined);
    accepted.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
});
afterEach(() => {
  for (const child of started.splice(0)) child.kill("SIGKILL");
  for (const socket of accepted) socket.destroy();
  server.close();
  folder[Symbol.dispose]();
});

/** A Node process that connects and, when told so, starts another one which has the socket too. */
async function startClient(options: { readonly withHeir?: boolean } = {}): Promise<{
  readonly child: ChildProcess;
  readonly pid: number;
  readonly socket: Socket;
  readonly heir: number;
}> {
  const script = `
    const socket = require("node:net").connect(${JSON.stringify(path)}, () => {
      const heir = ${options.withHeir === true}
        ? require("node:child_process").spawn("sleep", ["600"], { stdio: ["ignore", "ignore", "ignore", socket] })
        : undefined;
      process.stdout.write(String(heir?.pid ?? 0) + "\\n");
    });
    setInterval(() => undefined, 1000);`;
  const before = accepted.length;
  const program = startProgram([process.execPath, "-e", script], process.env);
  started.push(program.child);
  const heir = await waitFor("the client's line", () => /^(\d+)\n/.exec(program.stdout())?.[1]);
  const socket = await waitFor("its connection", () => accepted[before]);
  return { child: program.child, pid: program.child.pid ?? 0, socket, heir: Number(heir) };
}

describe("the peer of a socket of Node", () => {
  test("is the process that connected, with its user and group", async () => {
    const { pid, socket } = await startClient();

    expect(descriptorOf(socket)).toBeGreaterThan(2);
    expect(descriptorOf(server)).toBeGreaterThan(2);
    expect(peerCredentials(socket)).toEqual({ pid, uid: process.getuid?.(), gid: process.getgid?.() });
    expect(processStart(pid)).toBeGreaterThanOrEqual(processStart(process.pid));
  });

  test("is not known of TCP, and of a socket that is closed", async () => {
    const tcp = createServer();
    await new Promise<void>((resolve) => tcp.listen(0, "127.0.0.1", resolve));
    const { port } = tcp.address() as { port: number };
    const socket = connect(port, "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));

    expect(() => peerCredentials(socket)).toThrow(
      expect.objectContaining({
        code: "EOPNOTSUPP",
        message: expect.stringContaining("descriptor") as unknown,
      }),
    );
    socket.destroy();
    expect(() => peerCredentials(socket)).toThrow(expect.objectContaining({ code: "EBADF" }));
    expect(() => peerCredentials(1_000_000)).toThrow("descriptor 1000000 is not open");
    tcp.close();
  });
});

describe("the death of a process", () => {
  test("is told although another one holds its socket", async () => {
    const { child, pid, socket, heir } = await startClient({ withHeir: true });
    let isClosed = false;
    socket.once("close", () => (isClosed = true)).resume();
    const pidfd = peerPidfd(socket);
    expect(processHasEnded(pidfd)).toBe(false);
    const told = new Promise<number>((resolve) => {
      watchProcess(pidfd, () => resolve(performance.now()));
    });

    const killedAt = performance.now();
    child.kill("SIGKILL");
    const ms = (await told) - killedAt;
    console.log(`death of a process told after ${ms.toFixed(2)} ms`);

    expect(processHasEnded(pidfd)).toBe(true);
    closeSync(pidfd);
    await waitFor("the client's end", () => (child.signalCode === null ? undefined : true));
    expect(() => processStart(pid)).toThrow(expect.objectContaining({ code: "ESRCH" }));
    process.kill(heir, 0);
    expect(isClosed).toBe(false);
    process.kill(heir, "SIGKILL");
    await waitFor("the end of the connection", () => isClosed || undefined);
  });

  test("is told of each one by one thread, and not of one that is not watched any more", async () => {
    const clients = [await startClient(), await startClient(), await startClient()];
    const told: number[] = [];
    const latencies: number[] = [];
    let killedAt = 0;
    const watching = (): number =>
      readdirSync("/proc/self/task").filter(
        (thread) => readFileSync(`/proc/self/task/${thread}/comm`, "utf8") === "farpool-os\n",
      ).length;
    const watches = clients.map(({ socket, pid }) => {
      const pidfd = peerPidfd(socket);
      const watch = watchProcess(pidfd, () => {
        told.push(pid);
        latencies.push(performance.now() - killedAt);
      });
      closeSync(pidfd);
      return watch;
    });
    watches[0]?.stop();
    for (const [index, { child }] of clients.entries()) {
      killedAt = performance.now();
      child.kill("SIGKILL");
      await waitFor("its end", () => (child.signalCode === null ? undefined : true));
      await waitFor("the call", () => (told.length === index ? true : undefined));
    }

    expect(told).toEqual(clients.slice(1).map(({ pid }) => pid));
    expect(watching()).toBe(1);
    console.log(`death of processes told after ${latencies.map((ms) => ms.toFixed(2)).join(", ")} ms`);
  });

  test("keeps no Node alive that waits for it", async () => {
    const source = new URL("./processes.ts", import.meta.url).href;
    // Seen from its end the peer is this process, which lives on.
    const script = `
      import { connect } from "node:net";
      const { peerPidfd, watchProcess } = await import(${JSON.stringify(source)});
      const socket = connect(${JSON.stringify(path)});
      await new Promise((resolve) => socket.once("connect", resolve));
      watchProcess(peerPidfd(socket), () => console.log("told"));
      socket.unref();
      process.on("exit", () => console.log("over"));`;
    const program = startProgram([process.execPath, "--input-type=module", "-e", script], process.env);
    started.push(program.child);

    expect(await program.ended).toEqual({ status: 0, stdout: "over\n", stderr: "" });
  });
});

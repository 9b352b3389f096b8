import { chmodSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { startProgram, temporaryFolder, waitFor, type Program } from "@farpool/testkit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ClientRefused, watchClients, type Clients } from "./clients.ts";

let folder: ReturnType<typeof temporaryFolder>;
let path: string;
let server: Server;
let clients: Clients;
let accepted: Socket[];
let programs: Program[];

beforeEach(async () => {
  folder = temporaryFolder();
  path = join(folder.path, "broker");
  [accepted, programs, clients] = [[], [], watchClients()];
  server = createServer((socket) => {
    socket.on("error", () => undefined);
    accepted.push(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  chmodSync(path, 0o777);
});
afterEach(() => {
  clients.close();
  for (const { child } of programs) child.kill("SIGKILL");
  for (const socket of accepted) socket.destroy();
  server.close();
  folder[Symbol.dispose]();
});

/** A Python process: it can fork without exec, and exec without fork. */
async function startClient(script: string): Promise<[Program, Socket]> {
  const text = `
import os, socket, sys, time
def ask():
    asking = socket.socket(socket.AF_UNIX)
    asking.connect(${JSON.stringify(path)})
    return asking
${script}`;
  const count = accepted.length;
  const program = startProgram(["python3", "-c", text], process.env);
  programs.push(program);
  const socket = await waitFor("the client", () => {
    if (program.child.exitCode !== null) throw new Error(`it ended: ${program.stderr()}`);
    return accepted[count];
  });
  return [program, socket];
}

/** It has forked a child without exec, which holds what it holds. */
async function startClientWithChild(): Promise<[Program, Socket, number]> {
  const [program, socket] = await startClient(`
asking = ask()
child = os.fork()
if child != 0: print(child, flush=True)
time.sleep(600)`);
  return [program, socket, Number(await waitFor("its child", () => program.stdout() || undefined))];
}

function refusal(socket: Socket, asked = clients): ClientRefused {
  try {
    asked.admit(socket);
  } catch (error) {
    if (error instanceof ClientRefused) return error;
    throw error;
  }
  throw new Error("it was admitted");
}

test("the death of a process ends its connection although its child holds all its sockets", async () => {
  const [program, socket, child] = await startClientWithChild();
  const client = clients.admit(socket);
  expect(client).toEqual({
    pid: program.child.pid,
    uid: process.getuid?.(),
    start: expect.any(Number) as unknown,
  });
  const ends: string[] = [];
  const ended = new Promise<number>((resolve) => {
    clients.onEnd({ id: "a1", server: 0 }, client, (why) => {
      ends.push(why);
      resolve(performance.now());
    });
  });

  const killedAt = performance.now();
  program.child.kill("SIGKILL");
  console.log(`told after ${((await ended) - killedAt).toFixed(2)} ms`);

  process.kill(child, 0);
  expect(socket.readableEnded || socket.destroyed).toBe(false);
  process.kill(child, "SIGKILL");
  expect(ends).toEqual(["died"]);
});

test("a process that asks again after an exec ends its earlier connection, and is one process", async () => {
  const go = join(folder.path, "go");
  const again =
    "import socket, time; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); time.sleep(600)";
  const [program, first] = await startClient(`
asking = ask()
while not os.path.exists(${JSON.stringify(go)}): time.sleep(0.01)
os.execv(sys.executable, [sys.executable, "-c", "import sys; ${again}", ${JSON.stringify(path)}])`);
  const client = clients.admit(first);
  const ends: string[] = [];
  clients.onEnd({ id: "first", server: 0 }, client, (why) => ends.push(`first ${why}`));
  writeFileSync(go, "");
  const second = await waitFor("its second question", () => accepted[1]);

  const renewed = clients.admit(second);
  expect(renewed).toEqual(client);
  expect(ends).toEqual([]);
  clients.onEnd({ id: "second", server: 0 }, renewed, (why) => ends.push(`second ${why}`));
  expect(ends).toEqual(["first replaced"]);
  // A renewal names the connection that it has.
  clients.onEnd({ id: "second", server: 0 }, clients.admit(second), (why) =>
    ends.push(`renewed second ${why}`),
  );

  program.child.kill("SIGKILL");
  await waitFor("the end", () => (ends.length > 1 ? true : undefined));
  expect(ends).toEqual(["first replaced", "renewed second died"]);
});

test("a process has a connection to each server: another one replaces only that to its own, and its death ends all", async () => {
  const [program, socket] = await startClient("asking = ask(); time.sleep(600)");
  const client = clients.admit(socket);
  const ends: string[] = [];
  const connect = (id: string, place: number): void =>
    clients.onEnd({ id, server: place }, client, (why) => ends.push(`${id} ${why}`));
  connect("first", 0);
  connect("second", 1);
  expect(ends).toEqual([]);

  connect("first again", 0);
  expect(ends).toEqual(["first replaced"]);

  program.child.kill("SIGKILL");
  await waitFor("the ends", () => (ends.length === 3 ? true : undefined));
  expect(ends.toSorted()).toEqual(["first again died", "first replaced", "second died"]);
});

test("a process that died before it was answered is told as dead", async () => {
  const [program, socket] = await startClient("asking = ask(); time.sleep(600)");
  const client = clients.admit(socket);
  const [late, lateSocket, itsChild] = await startClientWithChild();
  for (const each of [program, late]) each.child.kill("SIGKILL");
  await program.ended;

  const why = await new Promise((resolve) => {
    setTimeout(() => clients.onEnd({ id: "a1", server: 0 }, client, resolve), 50);
  });

  expect(why).toBe("died");
  await waitFor("its end", () => (late.child.signalCode === null ? undefined : true));
  expect(refusal(lateSocket).sentence).toContain(`process ${late.child.pid}, which asks, cannot be followed`);
  process.kill(itsChild, "SIGKILL");
});

test("another user's process is refused by a sentence, and root's is not", async () => {
  const isRoot = process.getuid?.() === 0;
  const own = process.getuid?.() ?? 0;
  // Root can become somebody else; anybody else is not the owner of somebody else's session.
  const others = isRoot ? clients : watchClients({ owner: own + 1 });
  const [program, socket] = await startClient(`
if ${isRoot ? "True" : "False"}: os.setuid(65534)
asking = ask()
time.sleep(600)`);

  expect(refusal(socket, others)).toMatchObject({
    exitCode: 77,
    cudaError: "CUDA_ERROR_NOT_PERMITTED",
    sentence: `process ${program.child.pid} belongs to user ${isRoot ? 65534 : own}, the session to user ${isRoot ? 0 : own + 1}: only this user's processes and root's may use it`,
  });
  const [, ownSocket] = await startClient("asking = ask(); time.sleep(600)");
  expect(watchClients({ owner: isRoot ? 4711 : own }).admit(ownSocket).uid).toBe(own);
});

test("a socket that has closed is refused", async () => {
  const [, socket] = await startClient("asking = ask(); time.sleep(600)");
  socket.destroy();

  expect(refusal(socket).sentence).toContain("the broker cannot tell which process asks");
});

test("after close nothing is told", async () => {
  const [program, socket] = await startClient("asking = ask(); time.sleep(600)");
  const ends: string[] = [];
  clients.onEnd({ id: "a1", server: 0 }, clients.admit(socket), (why) => ends.push(why));

  clients.close();
  program.child.kill("SIGKILL");
  await program.ended;
  await new Promise((resolve) => setTimeout(resolve, 100));

  expect(ends).toEqual([]);
});

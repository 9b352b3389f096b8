import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { afterEach, expect, test } from "vitest";
import { askService } from "./ask.ts";

const servers: Server[] = [];
const sockets: Socket[] = [];
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

async function serve(path: string, answer: (socket: Socket) => void): Promise<void> {
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    answer(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(path, resolve));
}

test("an answer is its lines, a refusal its sentence, and where nobody listens there is none", async () => {
  using folder = temporaryFolder();
  const [good, bad, none] = ["good", "bad", "none"].map((name) => join(folder.path, name));
  await serve(good ?? "", (socket) => socket.end("ok\nlog one\nlog two\n\n"));
  await serve(bad ?? "", (socket) => socket.end("error 77 CUDA_ERROR_NO_DEVICE not for you\n\n"));

  expect(await askService(good ?? "", "logs")).toEqual(["log one", "log two"]);
  await expect(askService(bad ?? "", "logs")).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: "not for you",
  });
  expect(await askService(none ?? "", "logs")).toBeUndefined();
});

test("who hangs up without a word, is silent, or never comes to an end is told apart, in time", async () => {
  using folder = temporaryFolder();
  const [gone, silent, endless] = ["gone", "silent", "endless"].map((name) => join(folder.path, name));
  await serve(gone ?? "", (socket) => socket.end());
  await serve(silent ?? "", () => undefined);
  await serve(endless ?? "", (socket) => {
    const timer = setInterval(() => socket.write("wait a little\n"), 20);
    socket.once("close", () => clearInterval(timer));
  });

  await expect(askService(gone ?? "", "status")).rejects.toThrow("closed the connection without an answer");
  await expect(askService(silent ?? "", "status", 100)).rejects.toThrow("did not answer within 0.1 s");
  await expect(askService(endless ?? "", "status", 200)).rejects.toThrow("did not answer within 0.2 s");
});

test("a failure of the service is no refusal, and nonsense is shown", async () => {
  using folder = temporaryFolder();
  const [failing, strange] = ["failing", "strange"].map((name) => join(folder.path, name));
  await serve(failing ?? "", (socket) => socket.end("error 69 CUDA_ERROR_NO_DEVICE the disk is full\n"));
  await serve(strange ?? "", (socket) => socket.end("hello\n"));

  await expect(askService(failing ?? "", "logs")).rejects.toMatchObject({
    code: "FARPOOL_UNAVAILABLE",
    message: "the disk is full",
  });
  await expect(askService(strange ?? "", "logs")).rejects.toThrow("it answered 'hello', expected 'ok'");
});

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { createHttp } from "./http.ts";

/** Answers each request with how many connections there were, and closes the connection 50 ms later without a word. */
const SERVER = `
  const { createServer } = require("node:net");
  let connections = 0;
  createServer((socket) => {
    connections += 1;
    socket.on("error", () => undefined);
    socket.on("data", () => {
      const body = String(connections);
      socket.write("HTTP/1.1 200 OK\\r\\nconnection: keep-alive\\r\\ncontent-length: " + body.length + "\\r\\n\\r\\n" + body);
      setTimeout(() => socket.destroy(), 50);
    });
  }).listen(process.argv[1], () => console.log("ready"));
`;

test("a connection that was closed just as it was used again is no failure", async () => {
  const folder = mkdtempSync(join(tmpdir(), "farpool-http-"));
  const path = join(folder, "manager.sock");
  const server = spawn(process.execPath, ["-e", SERVER, path], { stdio: ["ignore", "pipe", "inherit"] });
  const http = createHttp({ kind: "unix", path });
  onTestFinished(async () => {
    http.close();
    server.kill();
    await once(server, "exit");
    rmSync(folder, { recursive: true });
  });
  await once(server.stdout, "data");
  const ask = () => http.send({ method: "GET", path: "/", timeoutMs: 5_000 });
  expect(await ask()).toEqual({ status: 200, body: "1" });
  // This process sees nothing of the end before it writes.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 500);
  expect(await ask()).toEqual({ status: 200, body: "2" });
});

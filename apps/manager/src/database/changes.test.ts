import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { startTestServer, waitFor, type TestDatabase } from "@farpool/testkit";
import { expect, onTestFinished, test } from "vitest";
import { listenForChanges } from "./changes.ts";

test("a database that is away is asked again and again by one attempt at a time, not by ever more", async () => {
  const server = await startTestServer({ isToBeStopped: true });
  const errors: unknown[] = [];
  const changes = await listenForChanges(await server.createDatabase(), (error) => errors.push(error));
  await server.stop();
  await sleep(4_000);
  await changes.close();
  // Eight attempts fit into this time; each used to start two.
  expect(errors.length).toBeGreaterThan(2);
  expect(errors.length).toBeLessThan(14);
});

/** A way to the database that can be broken, and later ones through it held up. */
async function startGate({ host, port: databasePort }: TestDatabase) {
  let opened = Promise.resolve();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket)).on("error", () => undefined);
    void opened.then(() => {
      const target = host.startsWith("/")
        ? { path: `${host}/.s.PGSQL.${databasePort}` }
        : { host, port: databasePort };
      const database = connect(target).on("error", () => socket.destroy());
      socket.pipe(database).pipe(socket);
      socket.once("close", () => database.destroy());
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    sockets,
    /** Breaks what there is; what comes then waits until the answer is called. */
    shut(): () => void {
      const { promise, resolve } = Promise.withResolvers<void>();
      opened = promise;
      for (const socket of sockets) socket.destroy();
      return resolve;
    },
  };
}

test("a connection that comes about while its manager stops does not stay", async () => {
  const server = await startTestServer();
  onTestFinished(() => server.stop());
  const database = await server.createDatabase();
  const gate = await startGate(database);
  const way = { ...database, host: "127.0.0.1", port: gate.port };
  const changes = await listenForChanges(way, () => undefined);
  const open = gate.shut();
  await waitFor("it is gone", () => (gate.sockets.size === 0 ? true : undefined));
  await waitFor("it is tried again", () => (gate.sockets.size === 1 ? true : undefined));
  await changes.close();
  open();
  await expect.poll(() => gate.sockets.size, { timeout: 5_000 }).toBe(0);
});

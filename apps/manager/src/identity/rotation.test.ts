import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connect } from "node:tls";
import { createClient, readMembership } from "@farpool/client-api";
import { startTestServer, waitFor, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startClockedPool, whoAmI } from "../testing/clocked-pool.ts";
import { ask, startPool } from "../testing/pool.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

const certificates = (text: string): number => text.split("BEGIN CERTIFICATE").length - 1;

test("a new authority spreads, takes over when all know it, and a day later the old one is trusted no longer", async () => {
  const pool = await startClockedPool(postgres);
  const [client, server] = [await pool.joinAs("client", "ws-1"), await pool.joinAs("server", "gpu-1")];
  const before = await pool.admin.call("authorityState", {});
  expect(before).toMatchObject({ authorities: [{ role: "presented" }], rotation: null });
  const begun = await pool.admin.call("rotateAuthority", {});
  expect(begun.authorities.map(({ role }) => role)).toEqual(["presented", "spreading"]);
  expect(begun.rotation).toMatchObject({
    phase: "spreading",
    machines: { total: 2, renewed: 0, waiting: ["client ws-1", "server gpu-1"] },
  });
  await expect(pool.admin.call("rotateAuthority", {})).rejects.toMatchObject({ code: "FARPOOL_CONFLICT" });
  await expect(pool.admin.call("finishRotation", { body: {} })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
    message: expect.stringContaining("2 of 2 machine(s) do not know it yet (client ws-1, server gpu-1)"),
  });
  // A machine hears of it with any answer, and renews long before half of its certificate's life.
  for (const machine of [client, server]) {
    const membership = pool.open(machine);
    await whoAmI(membership);
    await membership.renewIfDue();
    expect(certificates(readMembership(machine.files.membership)?.authority ?? "")).toBe(2);
    expect(await whoAmI(membership)).toMatchObject({ machine: { role: expect.any(String) } });
  }
  const finished = await pool.admin.call("finishRotation", { body: {} });
  expect(finished.rotation).toMatchObject({ phase: "retiring", machines: { total: 2, renewed: 2 } });
  const retiring = finished.authorities.find(({ role }) => role === "retiring");
  expect(retiring?.sha256).toBe(before.authorities[0]?.sha256);
  // Who trusted the old one only no longer recognises a manager; who knows both, does.
  await expect(whoAmI(pool.open(client))).resolves.toMatchObject({ machine: { name: "ws-1" } });
  const old = createClient({ ...pool.address(), authority: pool.firstAuthority, token: null });
  await expect(old.call("health", {})).rejects.toMatchObject({ code: "FARPOOL_OTHER_AUTHORITY" });
  old.close();
  await pool.joinAs("client", "ws-2");
  pool.pass(2);
  await waitFor("the old one is dropped", async () => {
    const state = await pool.admin.call("authorityState", {});
    return state.authorities.length === 1 && state.rotation === null ? true : undefined;
  });
  // The machine forgets it, too, long before half of its certificate's life.
  pool.pass(1);
  const later = pool.open(client);
  await later.renewIfDue();
  expect(certificates(readMembership(client.files.membership)?.authority ?? "")).toBe(1);
  expect(await whoAmI(later)).toMatchObject({ machine: { name: "ws-1" } });
  const { entries } = await pool.admin.call("audit", { query: {} });
  expect(entries.filter(({ kind }) => kind === "authority-changed")).toHaveLength(3);
});

test("another manager trusts the new authority from its first certificate on, and shows it after the change", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  const other = await pool.replica();
  await pool.admin.call("rotateAuthority", {});
  const membership = pool.open(machine);
  await whoAmI(membership);
  await membership.renewIfDue();
  expect(await whoAmI(membership, other.address)).toMatchObject({ machine: { name: "ws-1" } });
  await pool.admin.call("finishRotation", { body: {} });
  // The newer only: the older is trusted still, and would do for the older certificate.
  const { authority } = await pool.admin.call("authority", {});
  const [newer = ""] = authority.split(/(?<=END CERTIFICATE-----\n)/);
  const trusting = createClient({ ...other.address, authority: newer });
  await waitFor("the other one shows it", async () => {
    // It looks when it is asked.
    await other.admin.call("authorityState", {});
    return trusting.call("health", {});
  });
  trusting.close();
});

test("a change can be forced, and a machine that missed it is told to join again", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  await pool.admin.call("rotateAuthority", {});
  await pool.admin.call("finishRotation", { body: { isForced: true } });
  await expect(whoAmI(pool.open(machine))).rejects.toMatchObject({ code: "FARPOOL_OTHER_AUTHORITY" });
  const { entries } = await pool.admin.call("audit", { query: {} });
  expect(entries[0]?.reason).toContain("1 machine(s) do not know it and have to join again");
});

test("whatever certificate a manager shows, it speaks TLS 1.3 only", async () => {
  const pool = await startClockedPool(postgres);
  const { host, port } = pool.address();
  const speakOlder = () =>
    new Promise((resolve) => {
      const socket = connect({ host, port, maxVersion: "TLSv1.2", rejectUnauthorized: false }, () => {
        resolve(socket.getProtocol());
        socket.destroy();
      });
      socket.once("error", () => resolve("refused"));
    });
  expect(await speakOlder()).toBe("refused");
  await pool.admin.call("rotateAuthority", {});
  await pool.admin.call("finishRotation", { body: { isForced: true } });
  expect(await speakOlder()).toBe("refused");
});

test("who hears of a new authority leaves a file alone that another process is renewing, and does not fail without one", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  const { membership: file } = machine.files;
  const before = readFileSync(file, "utf8");
  await pool.admin.call("rotateAuthority", {});
  const membership = pool.open(machine);
  writeFileSync(`${file}.lock`, "1");
  await whoAmI(membership);
  expect(readFileSync(file, "utf8")).toBe(before);
  rmSync(`${file}.lock`);
  await whoAmI(membership);
  expect(readFileSync(file, "utf8")).not.toBe(before);
  const folder = join(pool.folder, "removed");
  mkdirSync(folder);
  const files = { membership: join(folder, "ws-1.json"), key: join(folder, "ws-1.pem") };
  writeFileSync(files.membership, before, { mode: 0o600 });
  copyFileSync(machine.files.key, files.key);
  const orphan = pool.open({ ...machine, files });
  rmSync(folder, { recursive: true });
  expect(await whoAmI(orphan)).toMatchObject({ machine: { name: "ws-1" } });
});

test("a session that another manager may have told of the old authority only holds up the change", async () => {
  const { client } = await startPool(postgres, 1);
  await client.call("rotateAuthority", {});
  await ask(client, 1);
  await expect(client.call("finishRotation", { body: {} })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
    message: expect.stringContaining("1 session(s) began before it was there"),
  });
});

import { X509Certificate } from "node:crypto";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { createClient, readMembership, type ManagerClient } from "@farpool/client-api";
import { generateSigningKey } from "@farpool/identity";
import { startTestServer, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startClockedPool, whoAmI } from "../testing/clocked-pool.ts";
import { ask, registerServer } from "../testing/pool.ts";

const DAY_MS = 86_400_000;
let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

test("a certificate lasts thirty days, began ten minutes ago, and is renewed at half of its life", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  const leaf = new X509Certificate(readMembership(machine.files.membership)?.certificate ?? "");
  const lifeMs = leaf.validToDate.getTime() - leaf.validFromDate.getTime();
  expect(lifeMs).toBe(30 * DAY_MS + 600_000);
  const serial = () =>
    new X509Certificate(readMembership(machine.files.membership)?.certificate ?? "").serialNumber;
  pool.pass(14);
  await pool.open(machine).renewIfDue();
  expect(serial()).toBe(leaf.serialNumber);
  pool.pass(2);
  const membership = pool.open(machine);
  await membership.renewIfDue();
  expect(serial()).not.toBe(leaf.serialNumber);
  expect(await whoAmI(membership)).toMatchObject({ machine: { name: "ws-1" } });
  expect(await pool.admin.call("listMachines", {})).toMatchObject({ machines: [{ certificates: 2 }] });
});

test("a machine that was off for half a year renews with its own key; after 180 days it joins again", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("server", "gpu-1");
  pool.pass(30 + 179);
  await expect(whoAmI(pool.open(machine))).rejects.toMatchObject({
    code: "FARPOOL_CERTIFICATE",
    message: expect.stringMatching(/the certificate of the server gpu-1 expired at .*, 17\d d( \d+ h)? ago$/),
  });
  const membership = pool.open(machine);
  await membership.renewIfDue();
  expect(await whoAmI(membership)).toMatchObject({ machine: { name: "gpu-1" } });
  pool.pass(30 + 181);
  await expect(pool.open(machine).renewIfDue()).rejects.toMatchObject({
    code: "FARPOOL_CERTIFICATE",
    message: expect.stringContaining("it could be renewed for 180 days"),
    hint: "'farpool join' with a new token brings this machine back",
  });
  await pool.joinAs("server", "gpu-1", machine.key);
  expect(await whoAmI(pool.open(machine))).toMatchObject({ machine: { id: machine.machineId } });
});

test("of two machines with one identity the second that renews is refused, by name and in the audit", async () => {
  const pool = await startClockedPool(postgres);
  const original = await pool.joinAs("client", "ws-1");
  const copyFiles = { membership: join(pool.folder, "copy.json"), key: join(pool.folder, "copy.pem") };
  for (const name of ["membership", "key"] as const) copyFileSync(original.files[name], copyFiles[name]);
  const copy = { ...original, files: copyFiles };
  pool.pass(16);
  const first = pool.open(original);
  await first.renewIfDue();
  await whoAmI(first);
  await expect(pool.open(copy).renewIfDue()).rejects.toMatchObject({
    code: "FARPOOL_CERTIFICATE",
    message: expect.stringMatching(
      /the client ws-1 was renewed by another machine, .*: this one is a copy of it$/,
    ),
    hint: expect.stringContaining("farpool leave --forget"),
  });
  expect(await whoAmI(first)).toMatchObject({ machine: { name: "ws-1" } });
  const { entries } = await pool.admin.call("audit", { query: {} });
  expect(entries).toContainEqual(
    expect.objectContaining({ kind: "machine-cloned", client: original.key.thumbprint, peer: "127.0.0.1" }),
  );
});

test("a renewal whose answer was lost is repeated; it is no copy's", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  const client = createClient(pool.open(machine).address());
  await client.call("renewMachine", {});
  client.close();
  pool.pass(16);
  const membership = pool.open(machine);
  await membership.renewIfDue();
  expect(await whoAmI(membership)).toMatchObject({ machine: { name: "ws-1" } });
});

test("a revoked machine renews nothing, joins not again with its key, and another may take its name", async () => {
  const pool = await startClockedPool(postgres);
  const machine = await pool.joinAs("client", "ws-1");
  const params = { machineId: machine.machineId };
  await pool.admin.call("revokeMachine", { params, body: { reason: "stolen" } });
  pool.pass(16);
  await expect(pool.open(machine).renewIfDue()).rejects.toMatchObject({
    message: expect.stringMatching(/^the client ws-1 was revoked at .*: stolen$/),
  });
  await expect(pool.joinAs("client", "ws-1", machine.key)).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: expect.stringContaining("this machine's key was revoked at"),
  });
  await pool.joinAs("client", "ws-1");
});

test("nobody joins with a key that it does not hold", async () => {
  const pool = await startClockedPool(postgres);
  const [stolen, own] = [generateSigningKey(), generateSigningKey()];
  await expect(
    pool.joinAs("client", "ws-1", { ...stolen, privateKey: own.privateKey }),
  ).rejects.toMatchObject({ message: "the machine has not proved to hold the key it names" });
});

test("machines speak for themselves only: other sessions, other servers and the rest are refused by name", async () => {
  const pool = await startClockedPool(postgres);
  const [one, two] = [await pool.joinAs("client", "ws-1"), await pool.joinAs("client", "ws-2")];
  const server = await pool.joinAs("server", "gpu-1");
  const [first, second, agent] = [one, two, server].map((each) => createClient(pool.open(each).address()));
  if (first === undefined || second === undefined || agent === undefined) throw new Error("three clients");
  onTestFinished(() => [first, second, agent].forEach((client) => client.close()));
  const registration = {
    ...{
      name: "gpu-1",
      version: "0.1.0",
      endpoints: [{ kind: "tls" as const, host: "10.0.0.1", port: 7445 }],
    },
    inventory: {
      ...{ driverVersion: "13.0", simulated: true },
      gpus: [
        {
          ...{ index: 0, uuid: "GPU-1", name: "Test GPU", memoryTotalBytes: 2 ** 34, memoryUsedBytes: 0 },
          ...{ computeCapability: "8.0", pciBusId: "0000:00:00.0", multiprocessors: 4 },
        },
      ],
    },
  };
  await agent.call("registerAgent", { body: { ...registration, serverId: server.machineId } });
  const beat = { inventory: null, acceptorReady: true };
  await agent.call("heartbeatAgent", { params: { serverId: server.machineId }, body: beat });
  const session = await ask(first, 1, { clientKey: one.key.publicKey });
  expect(session.client.host).toBe("ws-1");
  const params = { sessionId: session.id };
  const refused = (message: string) => ({ code: "FARPOOL_NOT_PERMITTED", message });
  await expect(second.call("heartbeatSession", { params })).rejects.toMatchObject(
    refused(`the session ${session.id} is not the client ws-2's`),
  );
  await expect(ask(second, 1, { clientKey: one.key.publicKey })).rejects.toMatchObject(
    refused("the key that the session is asked for is not the client ws-2's"),
  );
  await expect(
    agent.call("heartbeatAgent", { params: { serverId: one.machineId }, body: beat }),
  ).rejects.toMatchObject(refused(`the server ${one.machineId} is not the server gpu-1's`));
  await expect(
    agent.call("registerAgent", { body: { ...registration, serverId: one.machineId } }),
  ).rejects.toMatchObject(refused(`the server ${one.machineId} is not the server gpu-1's`));
  await expect(
    first.call("heartbeatAgent", { params: { serverId: server.machineId }, body: beat }),
  ).rejects.toMatchObject(refused("this is for servers only; the client ws-1 is none"));
  await expect(first.call("createJoinToken", { body: { role: "client" } })).rejects.toMatchObject(
    refused("this is for administrators only; the client ws-1 is none"),
  );
  expect(await first.call("heartbeatSession", { params })).toMatchObject({ state: "granted" });
});

test("policies and usage know who is mapped or has signed in by name, and she sees nobody else's usage", async () => {
  const pool = await startClockedPool(postgres);
  await registerServer(pool.admin, 4);
  const machine = await pool.joinAs("client", "ws-1");
  const clientKey = machine.key.publicKey;
  for (const name of ["alice", "bob"]) await pool.admin.call("createUser", { body: { name } });
  const scope = { kind: "user", name: "bob" } as const;
  await pool.admin.call("setPolicy", { body: { scope, fields: { gpus: { value: 1, hard: true } } } });
  const { token } = await pool.admin.call("createApiToken", {
    body: { user: "bob", name: "test", scopes: ["sessions"] },
  });
  const [local, bob] = [null, token].map((each) => createClient(pool.open(machine).address(each)));
  if (local === undefined || bob === undefined) throw new Error("two clients");
  onTestFinished(() => [local, bob].forEach((client) => client.close()));

  await ask(local, 1, { clientKey });
  const mapping = { client: machine.key.thumbprint, account: "dev1", user: "alice" };
  await pool.admin.call("mapAccount", { body: mapping });
  await ask(local, 1, { clientKey });
  await ask(bob, 1, { clientKey });
  await expect(ask(bob, 1, { clientKey })).rejects.toMatchObject({
    code: "FARPOOL_POLICY",
    message: expect.stringMatching(/policy of .*bob, hard/),
  });
  const { entries } = await pool.admin.call("audit", { query: { last: 100 } });
  expect(entries.find(({ kind }) => kind === "policy-refused")).toMatchObject({
    reason: expect.stringContaining("bob@ws-1, run:"),
  });

  const users = async (client: ManagerClient) => {
    const { rows, total } = await client.call("usage", { query: { by: "user" } });
    const { records } = await client.call("usageRecords", { query: {} });
    return [
      rows.map(({ key }) => key ?? "").toSorted((one, other) => one.localeCompare(other)),
      total.sessions,
      records.map(({ user }) => user).toSorted(),
    ];
  };
  const all = ["alice", "bob", "dev1@ws-1"];
  expect(await users(pool.admin)).toEqual([all, 3, all]);
  expect(await users(bob)).toEqual([["bob"], 1, ["bob"]]);
  await expect(users(local)).rejects.toMatchObject({
    code: "FARPOOL_NOT_PERMITTED",
    message: "this is for users only; the client ws-1 is none",
  });
  await expect(bob.call("listPolicies", {})).rejects.toMatchObject({ code: "FARPOOL_NOT_PERMITTED" });
});

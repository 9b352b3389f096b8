import type { ManagerClient } from "@farpool/client-api";
import type { PolicyScope, Session, SessionRequest } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { startTestServer, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLIENT, startPool } from "../testing/pool.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

const POOL: PolicyScope = { kind: "pool", name: "" };
type Fields = Parameters<ManagerClient["call"]>[1];

const set = (
  client: ManagerClient,
  scope: PolicyScope,
  fields: Readonly<Record<string, { readonly value: unknown; readonly hard?: boolean }>>,
) => client.call("setPolicy", { body: { scope, fields } } as Fields & { body: never });

function ask(client: ManagerClient, more: Partial<SessionRequest> = {}): Promise<Session> {
  return client.call("createSession", {
    body: {
      count: 1,
      size: { kind: "share", share: 0.25 },
      name: null,
      client: { host: "ws-17", user: "dev1", pid: 42, program: "train" },
      clientKey: CLIENT.publicKey,
      waitMs: null,
      ...more,
    },
  });
}

const refusal = (message: string | RegExp) =>
  expect.objectContaining({
    code: "FARPOOL_POLICY",
    exitCode: 77,
    message: typeof message === "string" ? message : expect.stringMatching(message),
    hint: expect.stringContaining("an administrator of the pool"),
  });

test("every limit is refused by name, with what was asked, what is allowed, whence, and who can change it", async () => {
  const { client } = await startPool(postgres, 4);
  await ask(client);
  const name = CLIENT.thumbprint;
  const cases: Array<[string, unknown, Partial<SessionRequest>, string]> = [
    ["gpus", 2, { count: 2 }, "'GPUs at once': asked for 2 beside 1 held already, allowed: 2"],
    ["sessions", 1, {}, "'sessions at once': asked for 1 beside 1 held already, allowed: 1"],
    [
      "memoryMib",
      8 * 1024,
      { count: 2 },
      "'GPU memory at once': asked for 8 GiB beside 4 GiB held already, allowed: 8 GiB",
    ],
    [
      "maxDurationMs",
      60_000,
      { maxDurationMs: 61_000 },
      "'maximum duration': asked for 1 min 1 s, allowed: 1 min",
    ],
    [
      "idleTimeoutMs",
      60_000,
      { idleTimeoutMs: 90_000 },
      "'idle timeout': asked for 1 min 30 s, allowed: 1 min",
    ],
    ["waitMs", 60_000, { waitMs: 3_600_000 }, "'longest wait': asked for 1 h, allowed: 1 min"],
    [
      "serviceOnly",
      true,
      {},
      "'service only': asked for a session that is not the client's service (run), allowed: yes",
    ],
    [
      "servers",
      [{ label: "name", values: ["gpu-77"] }],
      {},
      "'allowed servers': asked for ¼ of a GPU, which no allowed server has, allowed: name=gpu-77",
    ],
  ];
  for (const [field, value, asked, sentence] of cases) {
    await set(client, { kind: "client", name }, { [field]: { value } });
    await expect(ask(client, asked)).rejects.toEqual(
      refusal(`policy ${sentence} (policy of client ws-17 (key ${name}))`),
    );
    await client.call("removePolicy", { body: { scope: { kind: "client", name } } });
  }
  const { entries } = await client.call("audit", { query: { last: 100 } });
  expect(entries.filter(({ kind }) => kind === "policy-refused")).toHaveLength(cases.length);
  expect(entries.filter(({ kind }) => kind === "policy-changed")).toHaveLength(2 * cases.length);
  expect((await client.call("listSessions", { query: {} })).sessions).toHaveLength(1);
});

const BAD_POLICIES: ReadonlyArray<readonly [string, unknown]> = [
  ["a pool with a name", { scope: { kind: "pool", name: "x" }, fields: {} }],
  ["a scope that there is not", { scope: { kind: "planet", name: "x" }, fields: {} }],
  ["a client by its name", { scope: { kind: "client", name: "ws-17" }, fields: {} }],
  ["a user with spaces", { scope: { kind: "user", name: "a b" }, fields: {} }],
  ["a group with a slash", { scope: { kind: "group", name: "a/b" }, fields: {} }],
  ["fewer GPUs than none", { scope: POOL, fields: { gpus: { value: -1 } } }],
  ["half a GPU", { scope: POOL, fields: { gpus: { value: 0.5 } } }],
  ["a field without a value", { scope: POOL, fields: { gpus: {} } }],
  ["a number as a flag", { scope: POOL, fields: { serviceOnly: { value: 1 } } }],
  ["no time at all", { scope: POOL, fields: { maxDurationMs: { value: 0 } } }],
  ["an empty list of servers", { scope: POOL, fields: { servers: { value: [] } } }],
  [
    "a label with a line break",
    { scope: POOL, fields: { servers: { value: [{ label: "a\n", values: ["b"] }] } } },
  ],
  ["nothing", {}],
];

test("a policy that is not understood gets a code and a sentence, and nothing is stored", async () => {
  const { client } = await startPool(postgres, 1);
  for (const [what, body] of BAD_POLICIES) {
    const refused = client.call("setPolicy", { body } as Fields & { body: never });
    const said = await refused.then(
      () => "stored",
      (error: unknown) => error,
    );
    expect({ what, said }).toMatchObject({ what, said: { code: "FARPOOL_BAD_REQUEST", exitCode: 64 } });
  }
  expect((await client.call("listPolicies", {})).policies).toEqual([]);
});

test("who names no times gets the policies'", async () => {
  const { client } = await startPool(postgres, 1);
  await set(client, POOL, {
    idleTimeoutMs: { value: 1_800_000 },
    maxDurationMs: { value: 3_600_000 },
    waitMs: { value: 0 },
  });
  expect(await ask(client, { size: { kind: "whole" } })).toMatchObject({
    idleTimeoutMs: 1_800_000,
    maxDurationMs: 3_600_000,
  });
  await expect(ask(client)).rejects.toMatchObject({ code: "FARPOOL_WAIT_OVER" });
});

test("requests at the same time never get more than a policy allows together", async () => {
  const { client } = await startPool(postgres, 8);
  await set(client, POOL, { gpus: { value: 3 } });
  const answers = await Promise.allSettled(Array.from({ length: 12 }, () => ask(client)));
  expect(answers.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
});

test("a limit of the pool counts the client, whatever users it reports; a user's counts the user", async () => {
  const { client } = await startPool(postgres, 8);
  await set(client, POOL, { gpus: { value: 2 } });
  const by = (user: string) => ({ client: { host: "ws-17", user, pid: 1, program: null } });
  await ask(client, by("dev1"));
  await ask(client, by("invented"));
  await expect(ask(client, by("another"))).rejects.toEqual(refusal(/beside 2 held already, allowed: 2/));
  await ask(client, { clientKey: generateSigningKey().publicKey });
  await set(client, { kind: "user", name: "dev9@ws-17" }, { gpus: { value: 1 } });
  await ask(client, by("dev9"));
  await expect(ask(client, by("dev9"))).rejects.toEqual(
    refusal(
      "policy 'GPUs at once': asked for 1 beside 1 held already, allowed: 1 (policy of user dev9@ws-17)",
    ),
  );
});

test("group, project and hard policies bind through the API, and explain says so", async () => {
  const { client } = await startPool(postgres, 8);
  await client.call("changeGroup", { body: { name: "vision", add: ["dev1@ws-17", "dev2@ws-18"] } });
  await set(client, { kind: "group", name: "vision" }, { gpus: { value: 5 } });
  await set(client, { kind: "project", name: "apollo" }, { gpus: { value: 1, hard: true } });
  await ask(client, { count: 2 });
  await expect(ask(client, { count: 2, project: "apollo" })).rejects.toEqual(
    refusal("policy 'GPUs at once': asked for 2, allowed: 1 (policy of project apollo, hard)"),
  );
  await ask(client, { project: "apollo" });
  const explained = await client.call("explainPolicy", {
    query: { user: "dev1@ws-17", client: CLIENT.thumbprint, project: "apollo" },
  });
  expect(explained).toMatchObject({ source: "reported", clientName: "ws-17", groups: ["vision"] });
  expect(explained.fields.find(({ field }) => field === "gpus")).toEqual({
    field: "gpus",
    value: "1",
    hard: true,
    origin: { kind: "project", name: "apollo" },
    originText: "policy of project apollo, hard",
    whoCanChangeIt:
      "an administrator of the pool, with 'farpool admin policies set --project apollo --gpus …'",
    overruled: [{ origin: { kind: "group", name: "vision" }, value: "5", why: "wider than a hard policy" }],
  });
  await client.call("removeGroup", { body: { name: "vision" } });
  expect((await client.call("listPolicies", {})).policies.map(({ scope }) => scope.kind)).toEqual([
    "project",
  ]);
  await expect(set(client, { kind: "group", name: "vision" }, { gpus: { value: 5 } })).rejects.toMatchObject({
    code: "FARPOOL_NOT_FOUND",
  });
  await expect(
    client.call("removePolicy", {
      body: { scope: { kind: "project", name: "apollo" }, fields: ["sessions"] },
    }),
  ).rejects.toMatchObject({ code: "FARPOOL_NOT_FOUND" });
});

test("allowed servers and memory hold when a session is placed from the queue, too", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const first = await ask(client, { size: { kind: "whole" } });
  await set(client, POOL, {
    servers: { value: [{ label: "name", values: ["gpu-01"] }] },
    memoryMib: { value: 64 * 1024 },
  });
  const waiting = await ask(client, { size: { kind: "whole" } });
  expect(waiting.state).toBe("queued");
  await obey();
  await client.call("endSession", { params: { sessionId: first.id }, body: { reason: "finished" } });
  await obey();
  expect(await client.call("showSession", { params: { sessionId: waiting.id } })).toMatchObject({
    state: "granted",
  });
  await set(client, POOL, { memoryMib: { value: 20 * 1024 } });
  await expect(ask(client, { size: { kind: "memory", memoryMib: 5 * 1024 } })).rejects.toEqual(
    refusal(/'GPU memory at once': asked for 5 GiB beside 16 GiB held already, allowed: 20 GiB/),
  );
});

test("a client's service gets what its specification says, and nothing is beside it", async () => {
  const { client } = await startPool(postgres, 4);
  const { thumbprint } = CLIENT;
  const params = { thumbprint };
  const end = (session: Session) =>
    client.call("endSession", { params: { sessionId: session.id }, body: { reason: "finished" } });
  await end(await ask(client));
  const specify = (more: object) =>
    client.call("specifyClient", {
      params,
      body: {
        specification: { count: 2, size: { kind: "share", share: 0.5 }, idleTimeoutMs: 600_000, ...more },
      },
    });
  await specify({});
  const service = (more: Partial<SessionRequest> = {}) => ask(client, { purpose: "service", ...more });
  const of = "(service specification of client ws-17)";
  await expect(service({ count: 3 })).rejects.toEqual(
    refusal(`policy 'GPUs of the service': asked for 3, allowed: 2 ${of}`),
  );
  await expect(service({ size: { kind: "whole" } })).rejects.toEqual(
    refusal(`policy 'size of the service': asked for 1 GPU, allowed: ½ of a GPU ${of}`),
  );
  await expect(service({ size: { kind: "memory", memoryMib: 9 * 1024 } })).rejects.toEqual(
    refusal(/allowed: ½ of a GPU/),
  );
  await expect(service({ idleTimeoutMs: 700_000 })).rejects.toEqual(refusal(/'idle timeout of the service'/));
  const held = await service({ size: { kind: "memory", memoryMib: 8 * 1024 } });
  expect(held).toMatchObject({ purpose: "service", idleTimeoutMs: 600_000 });
  await expect(ask(client)).rejects.toEqual(
    refusal(
      `policy 'sessions beside the service': asked for a second session beside ${held.id}, allowed: none ${of}`,
    ),
  );
  await expect(service()).rejects.toEqual(refusal(/'sessions of the service': asked for a second one/));
  await specify({ allowsOthers: true });
  const beside = await ask(client);
  await expect(service()).rejects.toEqual(refusal(/'sessions of the service'/));
  await end(held);
  await specify({});
  await expect(service()).rejects.toEqual(refusal(new RegExp(`beside ${beside.id}`)));
  await end(beside);
  await specify({ serviceOnly: true, filter: [{ label: "name", values: ["gpu-77"] }] });
  await expect(ask(client)).rejects.toEqual(
    refusal(/'service only': asked for .*\(run\), allowed: its service's/),
  );
  await expect(service()).rejects.toEqual(
    refusal(
      `policy 'servers of the service': asked for ¼ of a GPU, which no allowed server has, allowed: name=gpu-77 ${of}`,
    ),
  );
  await specify({ serviceOnly: true, filter: [{ label: "simulated", values: ["yes"] }] });
  await end(await service());
  await client.call("specifyClient", { params, body: { specification: null } });
  expect(await client.call("readClientSpecification", { params })).toEqual({ specification: null });
  await ask(client);
});

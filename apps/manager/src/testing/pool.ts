import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { createClient, type ManagerClient } from "@farpool/client-api";
import {
  serverIdSchema,
  TIMES,
  type AgentReport,
  type ServerId,
  type Session,
  type SessionRequest,
} from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { fakeInventory, GIB, temporaryFolder, type TestDatabase, type TestServer } from "@farpool/testkit";
import { pino } from "pino";
import { onTestFinished } from "vitest";
import { startManager } from "../manager.ts";

/** The client machine that asks, unless a test says otherwise. */
export const CLIENT = generateSigningKey();

export interface TestPool {
  readonly client: ManagerClient;
  readonly serverId: ServerId;
  readonly database: TestDatabase;
  readonly socketPath: string;
  /** What the server would say after carrying out what is wanted of it. */
  obey(more?: Partial<AgentReport>): Promise<void>;
  restart(): Promise<void>;
  /** A second manager on the same database. */
  replica(): Promise<ManagerClient>;
}

/** A manager on a database of its own, and a server that only the test itself speaks for. */
export async function startPool(postgres: TestServer, gpuCount: number): Promise<TestPool> {
  const folder = temporaryFolder();
  const socketPath = join(folder.path, "manager.sock");
  const connection = await postgres.createDatabase();
  const start = (socket = socketPath) =>
    startManager({
      connection,
      databaseKind: "external",
      socketPath: socket,
      tcp: null,
      tokenFile: join(folder.path, "token"),
      graceMs: TIMES.graceMs,
      logger: pino({ level: "silent" }),
    });
  let manager = await start();
  const client = createClient({ kind: "unix", path: socketPath });
  onTestFinished(async () => {
    client.close();
    await manager.stop();
    folder[Symbol.dispose]();
  });
  const serverId = await registerServer(client, gpuCount);
  return {
    client,
    serverId,
    database: connection,
    socketPath,
    obey: (more) => obeyAs(client, serverId, more),
    async replica() {
      const socket = join(folder.path, "replica.sock");
      const other = await start(socket);
      const otherClient = createClient({ kind: "unix", path: socket });
      onTestFinished(async () => {
        otherClient.close();
        await other.stop();
      });
      return otherClient;
    },
    async restart() {
      await manager.stop();
      manager = await start();
    },
  };
}

/** What a server would say after carrying out what is wanted of it. */
export async function obeyAs(
  client: ManagerClient,
  serverId: ServerId,
  more: Partial<AgentReport> = {},
): Promise<void> {
  const params = { serverId };
  const desired = await client.call("watchDesired", { params, query: { revision: 0, timeoutMs: 0 } });
  const openSessions = desired.sessions.map(({ id }) => id);
  await client.call("reportAgent", {
    params,
    body: { appliedRevision: desired.revision, openSessions, failures: [], workers: [], ...more },
  });
}

/** A server that is online, with GPUs of 16 GiB. */
export async function registerServer(
  client: ManagerClient,
  gpuCount: number,
  { name = "gpu-01", id = randomUUID() }: { readonly name?: string; readonly id?: string } = {},
): Promise<ServerId> {
  const serverId = serverIdSchema.parse(id);
  const params = { serverId };
  const gpus = Array.from({ length: gpuCount }, (_, index) => ({
    uuid: `GPU-${serverId}-${index}`,
    name: "Test GPU",
    memoryTotalBytes: 16 * GIB,
  }));
  await client.call("registerAgent", {
    body: {
      serverId,
      name,
      version: "0.1.0",
      endpoints: [{ kind: "tcp", host: "127.0.0.1", port: 7445 }],
      inventory: fakeInventory(gpus),
    },
  });
  await client.call("heartbeatAgent", { params, body: { inventory: null, acceptorReady: true } });
  return serverId;
}

export function ask(
  client: ManagerClient,
  count: number,
  {
    size = { kind: "whole" },
    waitMs = null,
    clientKey = CLIENT.publicKey,
    user = "dev1",
    ...more
  }: Partial<Omit<SessionRequest, "client" | "count" | "name">> & { readonly user?: string } = {},
): Promise<Session> {
  return client.call("createSession", {
    body: {
      count,
      size,
      name: null,
      client: { host: "ws-17", user, pid: 42, program: "train" },
      clientKey,
      waitMs,
      ...more,
    },
  });
}

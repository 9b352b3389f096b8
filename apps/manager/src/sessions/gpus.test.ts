import type { AgentReport } from "@farpool/contract";
import { GIB, startTestServer, type TestServer } from "@farpool/testkit";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, startPool } from "../testing/pool.ts";
import { inDomainsOf } from "./gpus.ts";

let postgres: TestServer;
beforeAll(async () => {
  postgres = await startTestServer();
});
afterAll(() => postgres.stop());

type Reported = NonNullable<AgentReport["workers"]>[number];

function worker(
  sessionId: string,
  { number, clientPid, used }: { number: number; clientPid: number | null; used: Record<string, number> },
): Reported {
  return {
    sessionId,
    worker: {
      pid: 1_000 + number,
      connectionId: String(number).repeat(32),
      clientPid,
      program: "train",
      startedAt: new Date(Date.now() - 60_000).toISOString(),
      report: {
        ...{ calls: 1, roundTrips: 1, localCalls: 1, bytesReceived: 1, bytesSent: 1, kernelLaunches: 1 },
        busyMs: 9_000,
        memoryPeakBytes: 4_096,
        perGpu: Object.entries(used).map(([uuid, memoryUsedBytes]) => ({ uuid, memoryUsedBytes })),
      },
    },
  };
}

test("a slice has the slice's memory, what its own processes use of it, and how busy they were", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const size = { kind: "memory", memoryMib: 4_096 } as const;
  const [session, other] = [await ask(client, 1, { size }), await ask(client, 1, { size })];
  const uuid = session.gpus[0]?.uuid ?? "";
  const at = new Date(Math.floor(Date.now() / 10_000) * 10_000 - 10_000).toISOString();
  const old = new Date(Date.parse(at) - 600_000).toISOString();
  const sample = (number: number, when: string, busyMs: number) => ({
    ...{ sessionId: session.id, connectionId: String(number).repeat(32), at: when, busyMs },
    memoryUsedBytes: 1,
  });
  await obey({
    workers: [
      worker(session.id, { number: 1, clientPid: 71, used: { [uuid]: 1_000 } }),
      worker(session.id, { number: 2, clientPid: 72, used: { [uuid]: 500 } }),
      // Has said nothing yet, and uses nothing.
      worker(session.id, { number: 3, clientPid: null, used: {} }),
      worker(other.id, { number: 4, clientPid: 73, used: { [uuid]: 7_000 } }),
    ],
    samples: [sample(1, old, 10_000), sample(1, at, 6_100), sample(2, old, 10_000)],
  });

  const told = await client.call("sessionGpus", { params: { sessionId: session.id } });

  expect(told).toMatchObject({ driverVersion: expect.any(String), gpus: [{ uuid, name: "Test GPU" }] });
  expect(told.gpus[0]).toMatchObject({
    memoryTotalBytes: 4 * GIB,
    memoryUsedBytes: 1_500,
    busyPercent: 61,
    health: null,
    processes: [
      { pid: 71, program: "train", memoryUsedBytes: 1_000, busyPercent: 61 },
      { pid: 72, program: "train", memoryUsedBytes: 500, busyPercent: null },
    ],
  });
});

test("two whole GPUs are told in the order in which programs count them, and looking is no use", async () => {
  const { client, obey } = await startPool(postgres, 3);
  const session = await ask(client, 2);
  await obey();

  const { gpus } = await client.call("sessionGpus", { params: { sessionId: session.id } });

  expect(gpus.map(({ uuid }) => uuid)).toEqual(session.gpus.map(({ uuid }) => uuid));
  expect(gpus.map(({ memoryTotalBytes }) => memoryTotalBytes)).toEqual([16 * GIB, 16 * GIB]);
  const shown = await client.call("showSession", { params: { sessionId: session.id } });
  expect(shown).toMatchObject({ lastBusyAt: null, usage: { processes: 0, calls: 0 } });
});

test("a session that waits has no GPUs to tell of, and one that has ended has them no more", async () => {
  const { client, obey } = await startPool(postgres, 1);
  const [first, second] = [await ask(client, 1), await ask(client, 1)];
  await expect(client.call("sessionGpus", { params: { sessionId: second.id } })).rejects.toMatchObject({
    code: "FARPOOL_CONFLICT",
  });
  await client.call("endSession", { params: { sessionId: first.id }, body: { reason: "finished" } });
  await obey();
  await expect(client.call("sessionGpus", { params: { sessionId: first.id } })).rejects.toMatchObject({
    code: "FARPOOL_SESSION_ENDED",
  });
});

test("GPUs of different servers never have the same address", () => {
  expect(inDomainsOf(0, "0000:0A:00.0")).toBe("0000:0A:00.0");
  expect(inDomainsOf(2, "0000:0A:00.0")).toBe("0800:0A:00.0");
  expect(inDomainsOf(1, "00000001:0A:00.0")).toBe("00000401:0A:00.0");
});

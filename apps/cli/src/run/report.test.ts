import { randomBytes, randomUUID } from "node:crypto";
import { connectionIdSchema, serverIdSchema, type SessionDetail } from "@farpool/contract";
import { expect, test } from "vitest";
import { describeServers, usageLine } from "./report.ts";

const furtherServers = [{ id: serverIdSchema.parse(randomUUID()), name: "gpu-02" }];

/** A session with a worker for each of these client processes. */
function used(
  clientPids: ReadonlyArray<number | null>,
  further: SessionDetail["furtherServers"],
): Parameters<typeof usageLine>[0] {
  const startedAt = new Date(0).toISOString();
  return {
    furtherServers: further,
    usage: {
      ...{ heldMs: 0, busyMs: 0, processes: clientPids.length, calls: 0, roundTrips: 0, localCalls: 0 },
      ...{ bytesReceived: 0, bytesSent: 0, kernelLaunches: 0, memoryPeakBytes: 0 },
    },
    processes: clientPids.map((clientPid) => ({
      connectionId: connectionIdSchema.parse(randomBytes(16).toString("hex")),
      ...{ workerPid: 1, clientPid, program: "train", sandbox: null, startedAt },
      ...{ endedAt: null, exit: null, report: null },
    })),
  };
}

test("all servers of a session are shown", () => {
  expect(describeServers({ serverName: null, furtherServers: [] })).toBeNull();
  expect(describeServers({ serverName: "gpu-01", furtherServers: [] })).toBe("gpu-01");
  expect(describeServers({ serverName: "gpu-01", furtherServers })).toBe("gpu-01, gpu-02");
});

test.each<[string, { pids: Array<number | null>; servers?: SessionDetail["furtherServers"]; says: string }]>([
  ["with a worker on each of two servers", { pids: [7, 7], says: "1 process" }],
  ["that has not reached its second server", { pids: [7], says: "1 process" }],
  ["that was two by an exec", { pids: [7, 7, 7, 7], says: "2 processes" }],
  ["beside another one", { pids: [7, 8, 7, 8], says: "2 processes" }],
  ["that was two by an exec, on one server", { pids: [7, 7], servers: [], says: "2 processes" }],
  ["whose number nobody has told yet", { pids: [null, 7], says: "2 processes" }],
])("a program %s is counted", (_, { pids, servers = furtherServers, says }) => {
  expect(usageLine(used(pids, servers))).toMatch(new RegExp(`^${says}, `));
});

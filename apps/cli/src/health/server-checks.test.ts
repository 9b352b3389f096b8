import {
  gpuUuidSchema,
  serverIdSchema,
  VERSION,
  type Gpu,
  type KnownHostFacts,
  type Server,
} from "@farpool/contract";
import { expect, test } from "vitest";
import { checkGpu, checkServer } from "./server-checks.ts";

const NOW = Date.parse("2026-11-30T12:00:00Z");
const at = (ms: number): string => new Date(NOW + ms).toISOString();
const HOUR = 3_600_000;
const GIB = 2 ** 30;

const host: KnownHostFacts = {
  at: at(0),
  kernel: "6.1",
  processors: 8,
  memoryTotalBytes: 64 * GIB,
  interfaces: [{ name: "eth0", mtu: 9_000 }],
  openFilesLimit: 65_536,
  lockedMemoryLimitBytes: null,
  stateDisk: { freeBytes: 50 * GIB, totalBytes: 100 * GIB },
  workerCertificateExpiresAt: at(20 * HOUR),
  clockAheadMs: 3,
};
const serverId = serverIdSchema.parse("11111111-1111-4111-8111-111111111111");
const server: Server = {
  id: serverId,
  name: "gpu-01",
  state: "online",
  version: VERSION,
  driverVersion: "13.0",
  simulated: false,
  endpoints: [],
  gpuCount: 1,
  workerSandbox: ["landlock-7", "seccomp"],
  host,
  driverRelease: null,
  labels: {},
  drain: null,
  maintenance: null,
  sessions: 0,
  registeredAt: at(-HOUR),
  lastSeenAt: at(-1_500),
};

const worst = (changed: Partial<Server>): string[] =>
  checkServer({ ...server, ...changed }, NOW)
    .filter(({ result }) => result !== "pass")
    .map(({ result, name, message, hint }) => `${result} ${name}: ${message} | ${hint ?? ""}`);

test("a server without anything wrong has no warning", () => {
  expect(worst({})).toEqual([]);
});

test.each<[string, Partial<Server>, RegExp]>([
  ["is lost", { state: "lost", lastSeenAt: at(-5 * 60_000) }, /^fail state: lost: heard of 5 min ago/],
  ["is silent", { state: "silent" }, /^warning state: silent/],
  ["has another version", { version: "0.0.9" }, /^warning version: the server is 0\.0\.9/],
  ["tells nothing of its machine", { host: null }, /^warning machine/],
  [
    "has a fast clock",
    { host: { ...host, clockAheadMs: 90_000 } },
    /^warning clock: .* 1 min 30 s ahead of .*timedatectl/,
  ],
  ["has a slow clock", { host: { ...host, clockAheadMs: -700_000 } }, /^fail clock: .* 11 min 40 s behind/],
  [
    "has a small MTU",
    { host: { ...host, interfaces: [{ name: "wg0", mtu: 1_280 }] } },
    /^warning MTU: wg0 1280/,
  ],
  [
    "may open few files",
    { host: { ...host, openFilesLimit: 1_024 } },
    /^warning open files: 1024 .*LimitNOFILE/,
  ],
  [
    "has a full disk",
    { host: { ...host, stateDisk: { freeBytes: 10 * 2 ** 20, totalBytes: GIB } } },
    /^fail disk: 10 MiB of 1 GiB free/,
  ],
  [
    "has a late certificate",
    { host: { ...host, workerCertificateExpiresAt: at(2 * HOUR) } },
    /^warning certificate: of its workers: good for 2 h more/,
  ],
  [
    "has an old certificate",
    { host: { ...host, workerCertificateExpiresAt: at(-HOUR) } },
    /^fail certificate: of its workers: expired 1 h ago/,
  ],
  ["has no sandbox", { workerSandbox: [] }, /^warning sandbox: its workers run without a sandbox/],
])("a server that %s is told with what to do", (_, changed, says) => {
  const lines = worst(changed);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(says);
  expect(lines[0]).not.toMatch(/\| $/);
});

const gpu: Gpu = {
  index: 0,
  uuid: gpuUuidSchema.parse("GPU-1"),
  name: "NVIDIA H200",
  memoryTotalBytes: 141 * GIB,
  memoryUsedBytes: GIB,
  computeCapability: "9.0",
  pciBusId: "0000:01:00.0",
  multiprocessors: 132,
  serverId,
  serverName: "gpu-01",
  serverState: "online",
  simulated: false,
  present: true,
  memoryFreeBytes: 141 * GIB,
  wholeFree: true,
  sessions: [],
};

test.each<[string, Partial<Gpu>, string]>([
  ["is free", {}, "pass"],
  ["is gone", { present: false }, "fail"],
  ["is used by somebody else", { memoryUsedBytes: 20 * GIB }, "warning"],
])("a GPU that %s", (_, changed, result) => {
  expect(checkGpu({ ...gpu, ...changed }).result).toBe(result);
});

import type { Installation } from "@farpool/layout";
import { expect, test } from "vitest";
import { poolParts } from "./parts.ts";

const installation: Installation = {
  root: "/opt/farpool",
  acceptor: "/opt/farpool/bin/farpool-acceptor",
  worker: "/opt/farpool/bin/farpool-worker",
  shimFolder: "/opt/farpool/lib/shim",
  audit: "/opt/farpool/lib/audit/libfarpool-audit.so",
  simulatedDriver: "/opt/farpool/lib/simgpu/libcuda.so.1",
  nvidiaSmi: "/opt/farpool/compat/nvidia-smi",
  cli: "/opt/farpool/cli/farpool.mjs",
  addOn: "/opt/farpool/lib/farpool-os.node",
};

function parts(isPlainTcp: boolean) {
  const settings = {
    folders: { state: "/state", runtime: "/run" },
    installation,
    listen: "127.0.0.1",
    port: 7443,
    dataPort: 7445,
    sockets: { descriptors: [20, 21, 22], names: "data-tcp:data-unix:control" },
    advertise: [{ host: "gpu-01.example.org", port: 9445 }],
    graceSeconds: 3,
    halfLifeMs: undefined,
    reserveAfterMs: 5_000,
    database: undefined,
    driver: "/driver",
    gpuIndexes: undefined,
    isPlainTcp,
  };
  const all = poolParts(settings);
  const agent: unknown = JSON.parse(all.find(({ name }) => name === "agent")?.arguments.at(-1) ?? "");
  const manager: unknown = JSON.parse(all.find(({ name }) => name === "manager")?.arguments.at(-1) ?? "");
  return { agent, manager, acceptor: all.find(({ name }) => name === "acceptor")?.arguments ?? [] };
}

test("data connections are TLS unless plain TCP is asked for; the workers have an identity either way", () => {
  const usual = parts(false);
  expect(usual.agent).toMatchObject({ transport: "tls", identityFile: "/state/worker-identity.pem" });
  expect(usual.acceptor.join(" ")).toContain("--worker-identity /state/worker-identity.pem");
  expect(usual.acceptor).not.toContain("--plain-tcp");
  const plain = parts(true);
  expect(plain.agent).toMatchObject({ transport: "tcp", identityFile: "/state/worker-identity.pem" });
  expect(plain.acceptor.join(" ")).toContain("--worker-identity /state/worker-identity.pem --plain-tcp");
});

test("the agent is told what to advertise, and the manager how long the time of grace is, and how to schedule", () => {
  const { agent, manager } = parts(false);
  expect(agent).toMatchObject({ advertise: [{ host: "gpu-01.example.org", port: 9445 }] });
  expect(manager).toMatchObject({ graceMs: 3_000, scheduling: { reserveAfterMs: 5_000 } });
});

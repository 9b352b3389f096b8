import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { AgentProcess } from "@farpool/agent";
import { fakeInventory, startProgram, waitFor, type FakeGpu } from "@farpool/testkit";
import type { TestPool } from "./pool.ts";

/** Another server of a pool: an agent from source with a fake acceptor of its own, both processes. */
export async function addServer(
  pool: TestPool,
  name: string,
  gpus: readonly FakeGpu[],
): Promise<{ stop(): Promise<void> }> {
  const folder = join(pool.folder, name);
  mkdirSync(folder);
  const driver = join(folder, "libcuda.so.1");
  writeFileSync(driver, JSON.stringify(fakeInventory(gpus)));
  const bin = join(pool.folder, "dist/bin");
  const control = join(folder, "acceptor.sock");
  const acceptor = startProgram(
    [
      join(bin, "farpool-acceptor"),
      ...["--control", control, "--worker", join(bin, "farpool-worker"), "--driver", driver],
      ...["--listen", "127.0.0.1:0", "--unix", join(folder, "data.sock"), "--server-name", name],
    ],
    { PATH: process.env["PATH"] },
  );
  const settings: AgentProcess = {
    manager: {
      kind: "local",
      socketPath: join(pool.folder, "state/run/manager.sock"),
      serverIdFile: join(folder, "server-id"),
      serverName: name,
    },
    dataHost: "127.0.0.1",
    advertise: [],
    acceptorSocket: control,
    identityFile: join(folder, "worker-identity.pem"),
    transport: "tls",
    worker: join(bin, "farpool-worker"),
    driver,
    gpuIndexes: null,
  };
  const agent = pool.start(["internal", "agent", JSON.stringify(settings)]);
  await waitFor(
    `the server ${name}`,
    async () => {
      if (agent.child.exitCode !== null) throw new Error(agent.stderr());
      const { servers } = await pool.client.call("listServers", {});
      return servers.some((server) => server.name === name && server.state === "online") ? true : undefined;
    },
    20_000,
  );
  return {
    async stop() {
      for (const { child, ended } of [agent, acceptor]) {
        child.kill("SIGTERM");
        await ended;
      }
    },
  };
}

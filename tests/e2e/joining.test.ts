import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { freePort } from "../../scripts/free-port.ts";
import { farpool } from "../../scripts/repository.ts";
import { type Pool, example, startPool } from "./kit/pool.ts";
import { type ProgramResult, type RunningProgram, execute, start, waitFor } from "./kit/program.ts";

let pool: Pool;
let folder: string;
beforeAll(async () => {
  pool = await startPool();
  folder = mkdtempSync(join(tmpdir(), "farpool-joined-"));
  chmodSync(folder, 0o711);
});
afterAll(async () => {
  await pool.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Another machine, as far as files, sockets and GPUs go. */
function machine(name: string) {
  const environment = {
    FARPOOL_STATE: join(folder, name),
    FARPOOL_SIMGPU_STATE: join(folder, `${name}-simgpu`),
    FARPOOL_SIMGPU_SEED: name,
    FARPOOL_SIMGPU_NAME_SUFFIX: ` of ${name}`,
  };
  return {
    farpool: (words: readonly string[]): Promise<ProgramResult> =>
      execute([farpool, ...words], { environment }),
    start: (words: readonly string[]): RunningProgram => start([farpool, ...words], { environment }),
  };
}

async function joinString(role: "server" | "client"): Promise<string> {
  const made = await pool.farpool(["admin", "tokens", "create", `--${role}`]);
  return made.stdout.trim();
}

it("a client that has joined runs CUDA on a server that has joined, each with nothing but a string", async () => {
  const [server, client] = [machine("gpu-02"), machine("ws-17")];
  expect(await server.farpool(["join", await joinString("server"), "--name", "gpu-02"])).toMatchObject({
    status: 0,
  });
  expect(await client.farpool(["join", await joinString("client"), "--name", "ws-17"])).toMatchObject({
    status: 0,
  });
  const serving = server.start(["server", "--simulated", "--data-port", String(await freePort())]);
  try {
    await waitFor("the second server", async () => {
      const { gpus } = await pool.client.call("listGpus", {});
      return gpus.some(({ serverName, wholeFree }) => serverName === "gpu-02" && wholeFree)
        ? true
        : undefined;
    });
    // The pool's own GPU is taken, so the next session is placed on the server that has joined.
    const { gpus } = await pool.client.call("listGpus", {});
    const first = client.start(["run", "-v", "--", "sh", "-c", "echo ready; sleep 60"]);
    await first.until("ready");
    const names = new Set(gpus.map(({ serverName }) => serverName));
    const second = await client.farpool(["run", "-v", "--new", "--", example("vector-add")]);
    expect(second).toMatchObject({ status: 0, stdout: expect.stringContaining("PASSED") });
    const { sessions } = await pool.client.call("listSessions", { query: { ended: 1 } });
    expect(new Set(sessions.map(({ serverName }) => serverName))).toEqual(names);
    first.child.kill("SIGTERM");
    await first.ended;
    expect(await client.farpool(["leave"])).toMatchObject({ status: 0 });
    const after = await client.farpool(["run", "--", example("vector-add")]);
    expect(after).toMatchObject({ status: 69, stderr: expect.stringContaining("no pool runs here") });
  } finally {
    serving.child.kill("SIGTERM");
    await serving.ended;
  }
});

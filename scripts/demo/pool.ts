import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ManagerClient, createClient } from "@farpool/client-api";
import type { Gpu } from "@farpool/contract";
import { freePort } from "../free-port.ts";
import { tail } from "../process.ts";
import { SetupFailed } from "../progress.ts";
import { farpool, logs, root } from "../repository.ts";

/** `farpool up` in a temporary folder, on ports that nobody else uses. */
export interface DemoPool extends AsyncDisposable {
  readonly folder: string;
  readonly client: ManagerClient;
  readonly gpu: Gpu;
  /** Makes `./farpool` find this pool. */
  readonly environment: NodeJS.ProcessEnv;
}

export interface PoolSettings {
  /** Names the folder and the log. */
  readonly name: string;
  /** Added to `farpool up`. */
  readonly words: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

const demo: PoolSettings = { name: "demo", words: [], environment: {} };
const startLimitMs = 60_000;
const stopLimitMs = 15_000;

export async function startDemoPool(settings: PoolSettings = demo): Promise<DemoPool> {
  const folder = mkdtempSync(join(tmpdir(), `farpool-${settings.name}-`));
  // The embedded database runs as another user when this one is root, and must pass through.
  chmodSync(folder, 0o711);
  const environment = {
    ...process.env,
    FARPOOL_STATE: folder,
    FARPOOL_RUNTIME: join(folder, "run"),
    FARPOOL_SIMGPU_STATE: join(folder, "simgpu"),
    ...settings.environment,
  };
  mkdirSync(logs, { recursive: true });
  const logPath = join(logs, `${settings.name}-pool.log`);
  const log = openSync(logPath, "w");
  const ports = ["--port", String(await freePort()), "--data-port", String(await freePort())];
  const up = spawn(farpool, ["up", ...settings.words, ...ports], {
    cwd: root,
    env: environment,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  const client = createClient({ kind: "unix", path: join(folder, "run", "manager.sock") });

  async function stop(): Promise<void> {
    client.close();
    await end(up);
    rmSync(folder, { recursive: true, force: true });
  }
  try {
    const gpu = await firstGpu(client, up);
    return { folder, client, gpu, environment, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    const said = tail(readFileSync(logPath, "utf8"), 20);
    throw new SetupFailed(`the pool did not start: ${String(error)}\n${said}`, `the whole log is ${logPath}`);
  }
}

async function firstGpu(client: ManagerClient, up: ChildProcess): Promise<Gpu> {
  const deadline = Date.now() + startLimitMs;
  for (;;) {
    const answer = await client.call("listGpus", {}).catch(() => undefined);
    if (answer?.gpus[0] !== undefined) return answer.gpus[0];
    if (up.exitCode !== null) throw new Error(`farpool up ended with status ${up.exitCode}`);
    if (Date.now() > deadline) throw new Error(`no GPU within ${startLimitMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** TERM lets the pool end its own processes; KILL is for one that does not. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
  await ended;
  clearTimeout(timer);
}

import { chmodSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { onTestFinished } from "vitest";
import { type ManagerClient, createClient } from "@farpool/client-api";
import type { Gpu, SessionDetail } from "@farpool/contract";
import { freePort } from "../../../scripts/free-port.ts";
import { examples, farpool, library } from "../../../scripts/repository.ts";
import { isAlive, processTree, processesMentioning } from "./processes.ts";
import {
  type ProgramOptions,
  type ProgramResult,
  type RunningProgram,
  execute,
  start,
  waitFor,
} from "./program.ts";

/** A pool of its own for one test file: own folders, free ports, simulated GPUs. */
export interface Pool {
  readonly folder: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly client: ManagerClient;
  readonly up: RunningProgram;
  readonly dataPort: number;
  /** `./farpool …` against this pool, to its end. */
  farpool(words: readonly string[], options?: ProgramOptions): Promise<ProgramResult>;
  /** `./farpool …` against this pool, while the test goes on. */
  start(words: readonly string[], options?: ProgramOptions): RunningProgram;
  gpu(): Promise<Gpu>;
  /** The session that a `farpool run` started by the test holds. */
  sessionOf(run: RunningProgram): Promise<SessionDetail>;
  /** Fails unless all memory is free, no session lives, and no worker is left. */
  expectNothingHeld(): Promise<void>;
  /** Ends the pool and fails when one of its processes outlives it. */
  stop(): Promise<void>;
}

export async function startPool(
  gpus = 1,
  simulation: Readonly<Record<string, string>> = {},
  more: { readonly words?: readonly string[]; readonly dataPort?: number } = {},
): Promise<Pool> {
  const folder = mkdtempSync(join(tmpdir(), "farpool-e2e-"));
  // The embedded database runs as another user when the tests run as root.
  chmodSync(folder, 0o711);
  const [managerPort, dataPort] = [await freePort(), more.dataPort ?? (await freePort())];
  const environment = {
    FARPOOL_STATE: folder,
    FARPOOL_RUNTIME: join(folder, "run"),
    // All simulated GPUs of a user share one account of used memory unless told otherwise.
    FARPOOL_SIMGPU_STATE: join(folder, "simgpu"),
    ...simulation,
    // Where programs write which calls they made; `npm run coverage` asks for it.
    ...(process.env["FARPOOL_COVERAGE"] === undefined
      ? {}
      : { FARPOOL_COVERAGE: process.env["FARPOOL_COVERAGE"] }),
  };
  const ports = ["--port", String(managerPort), "--data-port", String(dataPort)];
  const words = ["up", "--simulated", String(gpus), ...ports, ...(more.words ?? [])];
  const up = start([farpool, ...words], { environment });
  const client = createClient({ kind: "unix", path: join(folder, "run", "manager.sock") });

  const pool: Pool = {
    folder,
    environment,
    client,
    up,
    dataPort,
    farpool: (more, options) => execute([farpool, ...more], withPool(options)),
    start: (more, options) => {
      const run = start([farpool, ...more], withPool(options));
      // A test that failed leaves its GPU to the next one.
      onTestFinished(async () => {
        if (run.child.exitCode === null && run.child.signalCode === null) run.child.kill("SIGTERM");
        await run.ended;
      });
      return run;
    },
    gpu: async () => {
      const { gpus } = await client.call("listGpus", {});
      if (gpus[0] === undefined) throw new Error("the pool has no GPU");
      return gpus[0];
    },
    sessionOf: (run) =>
      waitFor(`an active session of process ${run.pid}`, async () => {
        const { sessions } = await client.call("listSessions", { query: {} });
        const found = sessions.find(
          (session) => session.client.pid === run.pid && session.state === "active",
        );
        return found === undefined
          ? undefined
          : client.call("showSession", { params: { sessionId: found.id } });
      }),
    expectNothingHeld: () => expectNothingHeld(pool),
    stop: () => stop(pool),
  };
  function withPool(options: ProgramOptions = {}): ProgramOptions {
    return { ...options, environment: { ...environment, ...options.environment } };
  }

  try {
    await waitFor("a GPU in the pool", async () => {
      if (up.child.exitCode !== null) throw new Error(`farpool up ended: ${JSON.stringify(await up.ended)}`);
      const answer = await client.call("listGpus", {}).catch(() => undefined);
      return answer !== undefined && answer.gpus.length > 0 ? true : undefined;
    });
  } catch (error) {
    await pool.stop().catch(() => undefined);
    throw new Error(`the pool did not start\n${logsOf(folder)}`, { cause: error });
  }
  return pool;
}

/** The program alone, without a pool, on the simulated GPU. */
let directFolder: string | undefined;

function directState(): string {
  if (directFolder === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "farpool-direct-"));
    process.on("exit", () => {
      rmSync(folder, { recursive: true, force: true });
    });
    directFolder = folder;
  }
  return join(directFolder, "simgpu");
}

export function runDirectly(
  words: readonly string[],
  gpus = 1,
  simulation: Readonly<Record<string, string>> = {},
): Promise<ProgramResult> {
  return execute(words, {
    environment: {
      LD_LIBRARY_PATH: dirname(library.simgpu),
      FARPOOL_SIMGPU_DEVICES: String(gpus),
      // Programs of other people on this machine must not take this device's memory.
      FARPOOL_SIMGPU_STATE: directState(),
      ...simulation,
    },
  });
}

export function example(name: string): string {
  return join(examples, name);
}

async function expectNothingHeld(pool: Pool): Promise<void> {
  await waitFor("all GPU memory free and no session left", async () => {
    const gpu = await pool.gpu();
    const { sessions } = await pool.client.call("listSessions", { query: {} });
    const isFree = gpu.wholeFree && gpu.sessions.length === 0 && gpu.memoryUsedBytes === 0;
    return isFree && sessions.length === 0 ? true : undefined;
  });
  // A worker's environment can be read by root alone, so those below this pool are looked for, too.
  const all = [...processesMentioning(pool.folder), ...processTree(pool.up.pid)];
  const workers = all.filter(({ command }) => command.endsWith("farpool-worker serve"));
  if (workers.length > 0) throw new Error(`workers are left: ${JSON.stringify(workers)}`);
}

async function stop(pool: Pool): Promise<void> {
  pool.client.close();
  if (isAlive(pool.up.pid)) pool.up.child.kill("SIGTERM");
  await pool.up.ended;
  try {
    await waitFor(
      "the end of all processes of the pool",
      () => {
        return processesMentioning(pool.folder).length === 0 ? true : undefined;
      },
      10_000,
    );
  } catch (error) {
    const left = processesMentioning(pool.folder);
    for (const { pid } of left) process.kill(pid, "SIGKILL");
    throw new Error(`left by the pool: ${JSON.stringify(left, null, 2)}`, { cause: error });
  } finally {
    rmSync(pool.folder, { recursive: true, force: true });
  }
}

function logsOf(folder: string): string {
  const logs = join(folder, "logs");
  try {
    return readdirSync(logs)
      .map((file) => `--- ${file}\n${readFileSync(join(logs, file), "utf8").slice(-3000)}`)
      .join("\n");
  } catch {
    return "(no logs)";
  }
}

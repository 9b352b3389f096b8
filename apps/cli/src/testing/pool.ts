import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient, type ManagerClient } from "@farpool/client-api";
import {
  createFakeInstallation,
  GIB,
  startOnTerminal,
  startProgram,
  temporaryFolder,
  waitFor,
  type Ended,
  type Program,
  type TerminalProgram,
} from "@farpool/testkit";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));

/** `farpool up` from source, with the fake acceptor and worker: two GPUs of 8 GiB. */
export interface TestPool {
  readonly client: ManagerClient;
  readonly folder: string;
  readonly up: Program;
  start(words: readonly string[], environment?: NodeJS.ProcessEnv, input?: string): Program;
  /** The same on a terminal of its own; what is typed goes to it. */
  startOnTerminal(words: readonly string[]): TerminalProgram;
  farpool(words: readonly string[], environment?: NodeJS.ProcessEnv, input?: string): Promise<Ended>;
  /** The same command on a machine of its own, as far as files go: with another state folder. */
  on(machine: string): Pick<TestPool, "start" | "farpool">;
  stop(): Promise<Ended>;
}

/** `more` is for `up`. */
export async function startTestPool(
  more: readonly string[] = [],
  surroundings: NodeJS.ProcessEnv = {},
): Promise<TestPool> {
  const folder = temporaryFolder();
  const gpus = [0, 1].map((index) => ({
    uuid: `GPU-fake-${index}`,
    name: "Fake GPU",
    memoryTotalBytes: 8 * GIB,
  }));
  const environment = {
    PATH: process.env["PATH"],
    HOME: folder.path,
    FARPOOL_STATE: join(folder.path, "state"),
    FARPOOL_DIST: createFakeInstallation(join(folder.path, "dist"), gpus),
    ...surroundings,
  };
  const start = (words: readonly string[], more: NodeJS.ProcessEnv = {}, input?: string): Program =>
    startProgram([process.execPath, MAIN, ...words], { ...environment, ...more }, input);
  const up = start(["up", "--simulated=2", "--port", "0", "--data-port", "0", ...more]);
  const client = createClient({ kind: "unix", path: join(folder.path, "state/run/manager.sock") });
  const pool: TestPool = {
    client,
    folder: folder.path,
    up,
    start,
    startOnTerminal: (words) => startOnTerminal([process.execPath, MAIN, ...words], environment),
    farpool: (words, more, input) => start(words, more, input).ended,
    on(machine) {
      const state = join(folder.path, machine);
      const startThere: TestPool["start"] = (more, own = {}, input) =>
        start(more, { FARPOOL_STATE: state, ...own }, input);
      return { start: startThere, farpool: (...all) => startThere(...all).ended };
    },
    async stop() {
      client.close();
      up.child.kill("SIGTERM");
      const ended = await up.ended;
      folder[Symbol.dispose]();
      return ended;
    },
  };
  try {
    await waitFor(
      "the pool",
      () => {
        if (up.child.exitCode !== null) throw new Error(up.stderr());
        return up.stderr().includes("ready ") ? true : undefined;
      },
      30_000,
    );
  } catch (error) {
    await pool.stop();
    throw error;
  }
  return pool;
}

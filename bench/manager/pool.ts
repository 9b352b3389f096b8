import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient, type ManagerAddress, type ManagerClient } from "@farpool/client-api";
import { TIMES } from "@farpool/contract";
import type { ManagerProcess } from "@farpool/manager";
import { freePort } from "../../scripts/free-port.ts";
import { dist, logs } from "../../scripts/repository.ts";
import { secondsOfTree } from "./processor.ts";

export interface ManagerProcessor {
  /** Seconds of processor time of the manager alone. */
  readonly manager: number;
  /** Of its PostgreSQL. */
  readonly database: number;
}

/** A manager as it is in production, with the embedded PostgreSQL: processes of their own, commits on disk. */
export interface BenchManager extends AsyncDisposable {
  /** An administrator, over the Unix socket. */
  readonly client: ManagerClient;
  /** Where machines reach it. */
  readonly place: Omit<Extract<ManagerAddress, { kind: "https" }>, "credentials">;
  /** So far. */
  processor(): ManagerProcessor;
}

const START_LIMIT_MS = 60_000;

export async function startBenchManager(): Promise<BenchManager> {
  const folder = mkdtempSync(join(tmpdir(), "farpool-bench-manager-"));
  // The embedded database runs as another user when this one is root, and must pass through.
  chmodSync(folder, 0o711);
  const port = await freePort();
  const settings: ManagerProcess = {
    database: "embedded",
    stateFolder: folder,
    logFolder: folder,
    socketPath: join(folder, "manager.sock"),
    tokenFile: join(folder, "token"),
    tcp: { host: "127.0.0.1", port },
    publicPlace: null,
    graceMs: TIMES.graceMs,
  };
  mkdirSync(logs, { recursive: true });
  const log = openSync(join(logs, "bench-manager.log"), "w");
  const words = [join(dist, "cli", "farpool.mjs"), "internal", "manager", JSON.stringify(settings)];
  const manager = spawn(process.execPath, words, {
    env: { ...process.env, FARPOOL_LOG_LEVEL: "warn" },
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  const client = createClient({ kind: "unix", path: settings.socketPath });
  async function stop(): Promise<void> {
    client.close();
    if (manager.exitCode === null) {
      manager.kill("SIGTERM");
      await once(manager, "exit");
    }
    rmSync(folder, { recursive: true, force: true });
  }
  try {
    await answering(client, manager);
    const { authority } = await client.call("authority", {});
    const token = readFileSync(settings.tokenFile, "utf8").trim();
    const pid = manager.pid ?? 0;
    return {
      client,
      place: { kind: "https", host: "127.0.0.1", port, authority, token },
      processor: () => secondsOfTree(pid),
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function answering(client: ManagerClient, manager: ChildProcess): Promise<void> {
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    const isReady = await client.call("ready", {}).then(
      () => true,
      () => false,
    );
    if (isReady) return;
    if (manager.exitCode !== null)
      throw new Error(
        `the manager ended with status ${manager.exitCode}; its log is ${join(logs, "bench-manager.log")}`,
      );
    if (Date.now() > deadline) throw new Error(`no manager answers within ${START_LIMIT_MS / 1_000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

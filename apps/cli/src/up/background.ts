import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createFolders, logFolder, type PoolFolders } from "@farpool/layout";
import { say } from "../core/output.ts";
import { readLiveRecord } from "./record.ts";

/** Starts the same command without a terminal, and returns when the pool is ready or has failed. */
export async function startInBackground(folders: PoolFolders): Promise<number> {
  createFolders(folders);
  const logFile = join(logFolder(folders), "up.log");
  const log = openSync(logFile, "w", 0o600);
  const words = process.argv.slice(1).filter((word) => word !== "--background");
  const child = spawn(process.execPath, [...process.execArgv, ...words], {
    stdio: ["ignore", log, log],
    detached: true,
  });
  closeSync(log);
  const ended = new Promise<number>((resolve) => {
    child.once("exit", (code) => resolve(code ?? 70));
    child.once("error", () => resolve(70));
  });
  let exitCode: number | undefined;
  void ended.then((code) => {
    exitCode = code;
  });
  for (;;) {
    const record = readLiveRecord(folders);
    if (record?.pid === child.pid && record?.isReady === true) break;
    if (exitCode !== undefined) {
      say(readFileSync(logFile, "utf8").trimEnd());
      return exitCode === 0 ? 70 : exitCode;
    }
    await sleep(30);
  }
  child.unref();
  say(readFileSync(logFile, "utf8").trimEnd());
  say(`stop it  farpool down   (pid ${child.pid})`);
  return 0;
}

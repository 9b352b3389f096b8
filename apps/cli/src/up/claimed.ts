import { existsSync } from "node:fs";
import { FarpoolError } from "@farpool/contract";
import {
  acceptorControlSocket,
  createFolders,
  findInstallation,
  type Installation,
  type PoolFolders,
} from "@farpool/layout";
import { say } from "../core/output.ts";
import { startInBackground } from "./background.ts";
import { endLeftovers } from "./leftovers.ts";
import { claim, ownIdentity, readLiveRecord, removeRecord, type UpRecord } from "./record.ts";
import { stopRequest } from "./run-parts.ts";

/** `sun_path` has 108 bytes with its final zero. */
const MAX_SOCKET_PATH = 107;

/** This machine, of which no other process of ours offers the GPUs. */
export interface Claimed {
  readonly folders: PoolFolders;
  readonly installation: Installation;
  /** The record by which this process runs the pool. */
  readonly own: UpRecord;
  readonly stop: AbortSignal;
}

/** Claims the folders for this process while it serves, or lets one in the background do so. Answers the exit code. */
export async function whileClaimed(
  options: { readonly simulated: number | undefined; readonly isBackground: boolean },
  folders: PoolFolders,
  serve: (claimed: Claimed) => Promise<number>,
): Promise<number> {
  const running = readLiveRecord(folders);
  if (running !== undefined) return alreadyRunning(running, folders, options.isBackground);
  const installation = findInstallation();
  requireParts(installation);
  requireShortPaths(folders);
  if (options.isBackground) return startInBackground(folders);
  if (options.simulated !== undefined) process.env["FARPOOL_SIMGPU_DEVICES"] = String(options.simulated);
  createFolders(folders);
  await endLeftovers(folders);
  const own: UpRecord = {
    ...ownIdentity(),
    isReady: false,
    address: "",
    description: "",
    runtime: folders.runtime,
    processes: [],
  };
  const other = claim(folders, own);
  if (other !== undefined) return alreadyRunning(other, folders, false);
  const stop = stopRequest();
  try {
    return await serve({ folders, installation, own, stop });
  } finally {
    removeRecord(folders);
  }
}

function requireParts({ acceptor, worker }: Installation): void {
  for (const file of [acceptor, worker]) {
    if (existsSync(file)) continue;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `a part of farpool is missing: ${file}`, {
      hint: "in a checkout, 'npm run build' builds it",
    });
  }
}

/** Said before anything is started: acceptor and database would fail on it again and again. */
function requireShortPaths(folders: PoolFolders): void {
  const longest = Buffer.byteLength(acceptorControlSocket(folders));
  if (longest <= MAX_SOCKET_PATH) return;
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `the path ${acceptorControlSocket(folders)} has ${longest} bytes: sockets have ${MAX_SOCKET_PATH} at most`,
    { hint: "choose a shorter --state, or a shorter FARPOOL_RUNTIME for the sockets alone" },
  );
}

function alreadyRunning(record: UpRecord, folders: PoolFolders, isWanted: boolean): number {
  const elsewhere = record.runtime !== "" && record.runtime !== folders.runtime;
  const facts = [
    `already running: pid ${record.pid}`,
    ...(record.address === "" ? [] : [`manager at ${record.address}`]),
    ...(elsewhere ? [`sockets in ${record.runtime}`] : []),
  ];
  const error = new FarpoolError(
    "FARPOOL_ALREADY_RUNNING",
    facts.join(", "),
    elsewhere ? { hint: `FARPOOL_RUNTIME=${record.runtime} uses it; 'farpool down' stops it` } : {},
  );
  // Who wants a pool in the background has one.
  if (!isWanted || elsewhere) throw error;
  say(`farpool: ${error.message}`);
  return 0;
}

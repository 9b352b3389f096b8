import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Machine } from "../machine.ts";

// What servers really run, by their own files and the kernel: nothing of it comes from an agent or a manager.

/** As the simulated GPU keeps it (native/simgpu/src/accounting.rs). */
const BOOK = { header: 8, slots: 512, slotBytes: 16 + 16 * 8, devices: 16 } as const;

/** A living process that has memory of a GPU. */
export interface User {
  readonly pid: number;
  /** By the driver's numbers. */
  readonly devices: readonly number[];
}

export interface Worker {
  readonly pid: number;
  readonly sessionId: string;
  readonly gpus: ReadonlyArray<{
    readonly uuid: string;
    readonly memoryLimitBytes?: number | null | undefined;
  }>;
}

/** Who has memory of a machine's GPUs at this moment: read in one go, and whoever is named was alive afterwards. */
export function gpuUsers({ folder }: Machine): readonly User[] {
  let book: Buffer;
  try {
    book = readFileSync(join(folder, "simgpu"));
  } catch {
    // Nobody has used them yet.
    return [];
  }
  const users: User[] = [];
  for (let slot = 0; slot < BOOK.slots; slot += 1) {
    const at = BOOK.header + slot * BOOK.slotBytes;
    if (at + BOOK.slotBytes > book.length) break;
    const pid = book.readUInt32LE(at);
    if (pid === 0 || startTime(pid) !== book.readBigUInt64LE(at + 8)) continue;
    const devices = Array.from({ length: BOOK.devices }, (_, device) => device).filter(
      (device) => book.readBigUInt64LE(at + 16 + device * 8) > 0n,
    );
    if (devices.length > 0) users.push({ pid, devices });
  }
  return users;
}

/** What ours wrote; half of it is none. */
type Note = Omit<Worker, "pid">;
type Account = Pick<Worker, "pid">;

/** The living workers of a machine, as its acceptor noted them before it started them. */
export function workersOf({ folder }: Machine): readonly Worker[] {
  const notes = join(folder, "state/run/workers");
  return list(notes).flatMap((file): Worker[] => {
    const id = /^([0-9a-f]{32})\.json$/.exec(file)?.[1];
    if (id === undefined) return [];
    const note = firstLine<Note>(join(notes, file));
    const account = firstLine<Account>(join(notes, `${id}.account`));
    if (note === undefined || account === undefined || !isWorker(account.pid)) return [];
    return [{ pid: account.pid, sessionId: note.sessionId, gpus: note.gpus }];
  });
}

/** Notes are kept for a while after the end, and another process may have the number by then. */
function isWorker(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").endsWith("farpool-worker\0serve\0");
  } catch {
    return false;
  }
}

/** In clock ticks since boot; undefined for who is gone. */
function startTime(pid: number): bigint | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    return BigInt(fields[19] ?? "0");
  } catch {
    return undefined;
  }
}

function firstLine<T>(file: string): T | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8").split("\n", 1)[0] ?? "") as T;
  } catch {
    // It is being written, or gone.
    return undefined;
  }
}

function list(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

import { readFileSync } from "node:fs";
import type { Socket } from "node:net";
import { processInfo } from "./processes.ts";

/** The process at the other end of the broker's socket. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
  /** In clock ticks since boot: with the pid it names the process. */
  readonly start: number;
}

/**
 * FALLBACK until `native/os` is there: the process that the request names, if it is one of this user's. Whoever can
 * open the socket could name another process of the same user, and would only keep itself out: the worker compares
 * with the key or the process that does connect. `native/os` replaces this by `peerCredentials(fd)`, which the
 * kernel answers, and the named pid is then only compared.
 */
export function peerOf(_socket: Socket, namedPid: number): Peer | undefined {
  const uid = effectiveUser(namedPid);
  const own = process.getuid?.() ?? 0;
  if (uid === undefined || (uid !== own && own !== 0)) return undefined;
  const start = processStart(namedPid);
  return start === undefined ? undefined : { pid: namedPid, uid, start };
}

export function processStart(pid: number): number | undefined {
  const info = processInfo(pid);
  return info === undefined || info.isZombie ? undefined : Number(info.startTime);
}

function effectiveUser(pid: number): number | undefined {
  try {
    const ids = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
    return ids === null ? undefined : Number(ids[1]);
  } catch {
    return undefined;
  }
}

import { closeSync, constants, openSync, readSync } from "node:fs";

/** More than any kernel keeps of its log. */
const MOST_BYTES = 16 * 1024 * 1024;
/** One record at a time comes from `/dev/kmsg`, and none is longer. */
const RECORD_BYTES = 16 * 1024;

export interface Xid {
  readonly code: number;
  readonly message: string;
}

/** Everything that the kernel's log has at the moment, or undefined: it is not for us to read. */
export function readKernelLog(path: string): string | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const buffer = Buffer.alloc(RECORD_BYTES);
    const parts: string[] = [];
    for (let read = 0; read < MOST_BYTES;) {
      const length = readRecord(descriptor, buffer);
      if (length === 0) break;
      if (length === undefined) continue;
      parts.push(buffer.toString("utf8", 0, length));
      read += length;
    }
    return parts.join("");
  } catch {
    return undefined;
  } finally {
    closeSync(descriptor);
  }
}

/** 0 at the end; undefined when the next record was overwritten in the meantime. */
function readRecord(descriptor: number, buffer: Buffer): number | undefined {
  try {
    return readSync(descriptor, buffer);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "EAGAIN") return 0;
    if (code === "EPIPE") return undefined;
    throw error;
  }
}

/** Per bus address (`0000:3b:00`) the last critical error that NVIDIA's driver reported. */
export function lastXids(log: string): ReadonlyMap<string, Xid> {
  const last = new Map<string, Xid>();
  for (const [, bus = "", code, message = ""] of log.matchAll(
    /NVRM: Xid \(PCI:([0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2})[^)]*\): (\d+),? ?(.*)/gi,
  ))
    last.set(bus.toLowerCase(), { code: Number(code), message: message.slice(0, 300) });
  return last;
}

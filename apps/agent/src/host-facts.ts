import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync, statfsSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import type { HostFacts } from "@farpool/contract";

const NETWORK = "/sys/class/net";

/** What of this machine matters to the programs that run on its GPUs. */
export function readHostFacts(workerIdentityFile: string): HostFacts {
  const limits = quietly(() => readFileSync("/proc/self/limits", "utf8")) ?? "";
  return {
    at: new Date().toISOString(),
    kernel: release(),
    processors: cpus().length,
    memoryTotalBytes: totalmem(),
    interfaces: interfaces(),
    openFilesLimit: softLimit(limits, "Max open files"),
    lockedMemoryLimitBytes: softLimit(limits, "Max locked memory"),
    stateDisk: quietly(() => disk(dirname(workerIdentityFile))) ?? null,
    workerCertificateExpiresAt: quietly(() => certificateEnd(workerIdentityFile)) ?? null,
  };
}

/** Those that a packet of another machine can come through. */
function interfaces(): HostFacts["interfaces"] {
  const names = quietly(() => readdirSync(NETWORK)) ?? [];
  return names.flatMap((name) => {
    const mtu = quietly(() => Number(readFileSync(join(NETWORK, name, "mtu"), "utf8")));
    const state = quietly(() => readFileSync(join(NETWORK, name, "operstate"), "utf8").trim());
    const isUsed = name !== "lo" && state !== "down" && mtu !== undefined && Number.isInteger(mtu);
    return isUsed ? [{ name: name.slice(0, 40), mtu }] : [];
  });
}

/** Null: unlimited, or not told. */
function softLimit(limits: string, name: string): number | null {
  const line = limits.split("\n").find((each) => each.startsWith(name));
  const soft = line?.slice(name.length).trim().split(/\s+/)[0] ?? "";
  const limit = /^\d+$/.test(soft) ? Number(soft) : null;
  return limit === null || !Number.isSafeInteger(limit) ? null : limit;
}

function disk(folder: string): NonNullable<HostFacts["stateDisk"]> {
  const { bavail, blocks, bsize } = statfsSync(folder);
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

function certificateEnd(file: string): string {
  return new X509Certificate(readFileSync(file)).validToDate.toISOString();
}

function quietly<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}

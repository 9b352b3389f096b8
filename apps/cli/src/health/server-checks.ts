import {
  formatBytes,
  formatDuration,
  VERSION,
  type Gpu,
  type KnownHostFacts,
  type Server,
} from "@farpool/contract";
import { fail, pass, warning, type Check } from "../doctor/check.ts";
import { checkSandbox } from "../doctor/pool-checks.ts";

const HOUR_MS = 3_600_000;
/** Renewed at half of its day: later than this nobody renews it. */
const LATE_RENEWAL_MS = 6 * HOUR_MS;
/** Grants are good from ten minutes before they are made. */
const SKEW_WARNING_MS = 60_000;
const SKEW_FAILURE_MS = 600_000;
const FEW_OPEN_FILES = 4_096;
const SMALL_MTU = 1_500;

/** A server as its agent tells of it. */
export function checkServer(server: Server, now: number): Check[] {
  return [
    checkState(server, now),
    server.version === VERSION
      ? pass("version", VERSION)
      : warning(
          "version",
          `the server is ${server.version}, this command ${VERSION}`,
          "upgrade the manager first, then servers, then clients",
        ),
    ...(server.host === null
      ? [warning("machine", "its agent tells nothing of its machine", "upgrade this server")]
      : checkHost(server.host, now)),
    ...checkSandbox("sandbox", server.workerSandbox).map((check) => ({
      ...check,
      message: check.message.replace(/^sandbox of its workers: /, ""),
    })),
  ];
}

function checkState({ state, lastSeenAt }: Server, now: number): Check {
  const since = formatDuration(Math.max(0, now - Date.parse(lastSeenAt)));
  const hint = "look at the agent's and the acceptor's log on that server";
  switch (state) {
    case "online":
      return pass("state", `online, heard of ${since} ago`);
    case "silent":
      return warning("state", `silent: heard of ${since} ago, or its acceptor does not answer`, hint);
    case "lost":
      return fail("state", `lost: heard of ${since} ago; its sessions were ended`, hint);
  }
}

function checkHost(host: KnownHostFacts, now: number): Check[] {
  return [
    checkClock(host.clockAheadMs),
    checkMtu(host.interfaces),
    checkLimits(host.openFilesLimit),
    ...(host.stateDisk === null ? [] : [checkDisk("disk", host.stateDisk)]),
    checkCertificate(host.workerCertificateExpiresAt, now),
  ];
}

export function checkClock(aheadMs: number): Check {
  const by = Math.abs(aheadMs);
  if (by < 1_000) return pass("clock", "agrees with the manager's");
  const sentence = `its clock is ${formatDuration(by)} ${aheadMs >= 0 ? "ahead of" : "behind"} the manager's`;
  const hint = "let it follow a time server: timedatectl set-ntp true";
  if (by >= SKEW_FAILURE_MS) return fail("clock", `${sentence}: certificates and grants are refused`, hint);
  return by >= SKEW_WARNING_MS ? warning("clock", sentence, hint) : pass("clock", sentence);
}

function checkMtu(interfaces: KnownHostFacts["interfaces"]): Check {
  const list = interfaces.map(({ name, mtu }) => `${name} ${mtu}`).join(", ");
  if (list === "") return pass("MTU", "no network but the machine's own");
  const small = interfaces.filter(({ mtu }) => mtu < SMALL_MTU);
  if (small.length > 0)
    return warning(
      "MTU",
      list,
      `below ${SMALL_MTU} data travel in many small packets: raise it, or use another network`,
    );
  const isLarge = interfaces.every(({ mtu }) => mtu >= 9_000);
  return pass("MTU", isLarge ? list : `${list} (9000 costs less processor time from 10 Gb/s on)`);
}

function checkLimits(openFiles: number | null): Check {
  if (openFiles === null) return pass("open files", "not limited");
  return openFiles >= FEW_OPEN_FILES
    ? pass("open files", `${openFiles} per process`)
    : warning(
        "open files",
        `${openFiles} per process: an acceptor needs a few for each program`,
        "LimitNOFILE=65536 in its unit, or ulimit -n",
      );
}

export function checkDisk(
  name: string,
  { freeBytes, totalBytes }: NonNullable<KnownHostFacts["stateDisk"]>,
): Check {
  const sentence = `${formatBytes(freeBytes)} of ${formatBytes(totalBytes)} free where its state is`;
  const hint = "make room there, or move the state folder; logs and database are in it";
  if (freeBytes < 100 * 2 ** 20) return fail(name, sentence, hint);
  return freeBytes < 2 ** 30 || freeBytes < totalBytes / 50
    ? warning(name, sentence, hint)
    : pass(name, sentence);
}

function checkCertificate(expiresAt: string | null, now: number): Check {
  const hint = "its agent renews it at half of its day: look at the agent's log";
  if (expiresAt === null)
    return warning("certificate", "of its workers: there is none, or it cannot be read", hint);
  const left = Date.parse(expiresAt) - now;
  if (left <= 0) return fail("certificate", `of its workers: expired ${formatDuration(-left)} ago`, hint);
  const sentence = `of its workers: good for ${formatDuration(left)} more`;
  return left < LATE_RENEWAL_MS ? warning("certificate", sentence, hint) : pass("certificate", sentence);
}

/** Memory that a driver and its tools take without anybody's program. */
const OWN_MEMORY_BYTES = 1.5 * 2 ** 30;

export function checkGpu(gpu: Gpu): Check {
  const name = `GPU ${gpu.index}`;
  const what = `${gpu.name}, ${formatBytes(gpu.memoryTotalBytes)}${gpu.simulated ? ", simulated" : ""}`;
  if (!gpu.present)
    return fail(
      name,
      `${what}: the driver no longer names it, and sessions hold it`,
      "look at the server's kernel log for Xid",
    );
  const ours = gpu.sessions.reduce((sum, { memoryUsedBytes }) => sum + memoryUsedBytes, 0);
  const foreign = (gpu.memoryUsedBytes ?? 0) - ours;
  if (gpu.sessions.length === 0 && foreign > OWN_MEMORY_BYTES)
    return warning(
      name,
      `${what}: ${formatBytes(foreign)} are used by no session`,
      "another program uses it: nvidia-smi on the server names it",
    );
  const use = gpu.sessions.length === 0 ? "free" : `${gpu.sessions.length} on it`;
  return pass(name, `${what}, ${use}`);
}

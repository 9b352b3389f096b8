import { execFile } from "node:child_process";
import type { GpuHealth, Inventory } from "@farpool/contract";
import { lastXids, readKernelLog } from "./kernel-log.ts";

/** It loads the driver, which takes seconds on a machine with eight GPUs. */
const TIMEOUT_MS = 30_000;

export interface HealthSource {
  /** NVIDIA's tool, found by PATH. */
  readonly smi: string;
  readonly kernelLog: string;
}

export const SYSTEM_HEALTH: HealthSource = { smi: "nvidia-smi", kernelLog: "/dev/kmsg" };

const FIELDS = [
  "uuid",
  "driver_version",
  "temperature.gpu",
  "ecc.errors.uncorrected.volatile.total",
  "ecc.errors.corrected.volatile.total",
  "mig.mode.current",
];
/** The second name is the one of drivers before 535. */
const REASONS = ["clocks_event_reasons.active", "clocks_throttle_reasons.active"] as const;

/** Bits of the reasons that are of concern: an idle GPU's low clocks, and a power limit under full load, are not. */
const CONCERNS: ReadonlyArray<readonly [bigint, string]> = [
  [0x08n, "hardware slowdown"],
  [0x20n, "heat (software)"],
  [0x40n, "heat (hardware)"],
  [0x80n, "power brake"],
];

/**
 * The inventory with how its GPUs are, as far as `nvidia-smi` and the kernel's log tell. Neither has to be there: what
 * nobody tells is null. Processes are foreign that are not in `ownPids`.
 */
export async function withHealth(
  inventory: Inventory,
  source: HealthSource,
  ownPids: ReadonlySet<number>,
): Promise<Inventory> {
  if (inventory.simulated) return inventory;
  const [rows, processes] = await Promise.all([queryGpus(source.smi), queryProcesses(source.smi, ownPids)]);
  const log = readKernelLog(source.kernelLog);
  const xids = log === undefined ? undefined : lastXids(log);
  const gpus = inventory.gpus.map((gpu) => {
    const row = rows?.get(gpu.uuid);
    const xid = xids?.get(busOf(gpu.pciBusId)) ?? null;
    if (row === undefined && xid === null) return gpu;
    const health: GpuHealth = {
      temperatureCelsius: row?.temperatureCelsius ?? null,
      eccUncorrected: row?.eccUncorrected ?? null,
      eccCorrected: row?.eccCorrected ?? null,
      throttling: row?.throttling ?? null,
      mig: row?.mig ?? null,
      xid,
      foreignProcesses:
        row === undefined ? null : (processes?.get(gpu.uuid) ?? (processes === undefined ? null : [])),
    };
    return { ...gpu, health };
  });
  const [first] = rows?.values() ?? [];
  return { ...inventory, gpus, driverRelease: first?.driverRelease ?? null };
}

type Row = Omit<GpuHealth, "xid" | "foreignProcesses"> & { readonly driverRelease: string | null };

async function queryGpus(smi: string): Promise<ReadonlyMap<string, Row> | undefined> {
  for (const reasons of REASONS) {
    const lines = await query(smi, "--query-gpu", [...FIELDS, reasons]);
    if (lines !== undefined) return new Map(lines.map(parseGpu));
  }
  return undefined;
}

function parseGpu(cells: readonly string[]): [string, Row] {
  const [uuid = "", release, temperature, uncorrected, corrected, mig, reasons] = cells;
  const mask = /^0x[0-9a-f]+$/i.test(reasons ?? "") ? BigInt(reasons ?? "0") : undefined;
  const row: Row = {
    driverRelease: told(release),
    temperatureCelsius: wholeNumber(temperature),
    eccUncorrected: wholeNumber(uncorrected),
    eccCorrected: wholeNumber(corrected),
    mig: mig === "Enabled" ? "enabled" : mig === "Disabled" ? "disabled" : null,
    throttling:
      mask === undefined ? null : CONCERNS.flatMap(([bit, name]) => ((mask & bit) === 0n ? [] : [name])),
  };
  return [uuid, row];
}

type Processes = NonNullable<GpuHealth["foreignProcesses"]>;

async function queryProcesses(
  smi: string,
  ownPids: ReadonlySet<number>,
): Promise<ReadonlyMap<string, Processes> | undefined> {
  const lines = await query(smi, "--query-compute-apps", ["gpu_uuid", "pid", "process_name", "used_memory"]);
  if (lines === undefined) return undefined;
  const found = new Map<string, Processes>();
  for (const [uuid = "", pid, ...rest] of lines) {
    const [program, memory] = [rest.slice(0, -1).join(", "), wholeNumber(rest.at(-1))];
    const number = wholeNumber(pid);
    // A process of another container, or one that has just ended, has no name here, and may be one of ours.
    if (number === null || ownPids.has(number) || told(program) === null) continue;
    // The one that reads the inventory.
    if (/(^|\/)farpool-worker$/.test(program)) continue;
    const list = found.get(uuid) ?? [];
    found.set(uuid, list);
    list.push({
      pid: number,
      program: program.slice(0, 200),
      memoryUsedBytes: memory === null ? null : memory * 1024 * 1024,
    });
  }
  return found;
}

function told(text: string | undefined): string | null {
  return text === undefined || text === "" || text.startsWith("[") ? null : text;
}

function wholeNumber(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** Rows of cells, or undefined: the tool is not there, does not know a field, or cannot reach the driver. */
function query(smi: string, what: string, fields: readonly string[]): Promise<string[][] | undefined> {
  return new Promise((resolve) => {
    const words = [`${what}=${fields.join(",")}`, "--format=csv,noheader,nounits"];
    execFile(smi, words, { timeout: TIMEOUT_MS, maxBuffer: 4 * 1024 * 1024 }, (error, stdout) => {
      if (error !== null) resolve(undefined);
      else {
        const lines = stdout.split("\n").filter((line) => line.trim() !== "");
        resolve(lines.map((line) => line.split(",").map((cell) => cell.trim())));
      }
    });
  });
}

/** `00000000:3B:00.0` and `0000:3B:00.0` → `0000:3b:00`, as the kernel's log has it. */
function busOf(pciBusId: string): string {
  const [, domain = "", rest = ""] = /^([0-9a-f]+):([0-9a-f]{2}:[0-9a-f]{2})/i.exec(pciBusId) ?? [];
  return `${domain.slice(-4).padStart(4, "0")}:${rest}`.toLowerCase();
}

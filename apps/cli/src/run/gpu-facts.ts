import type { SessionGpus } from "@farpool/contract";
import { RefusedError } from "./answer.ts";

/** Tools ask for dozens of values in a row, and the server tells news every two seconds at most. */
const FRESH_MS = 1_000;

/** NVML's bits for what servers call the reasons of low clocks (`apps/agent/src/health.ts`). */
const REASONS: Readonly<Record<string, number>> = {
  "hardware slowdown": 0x08,
  "heat (software)": 0x20,
  "heat (hardware)": 0x40,
  "power brake": 0x80,
};

/** Whether GPUs are simulated is not known before there are any: null. */
export type ToldGpus = Omit<SessionGpus, "simulated"> & { readonly simulated: boolean | null };

export interface GpuFacts {
  /** The lines that tell a process of its session's GPUs (ARCHITECTURE 4.4); throws a `RefusedError`. */
  lines(): Promise<readonly string[]>;
}

/**
 * What the session's GPUs are and do, asked from the manager at most once a second. While the manager is away the last
 * answer holds: running programs do not notice it.
 */
export function createGpuFacts(
  read: () => Promise<SessionGpus>,
  now: () => number = () => performance.now(),
): GpuFacts {
  let last: { readonly lines: readonly string[]; readonly at: number } | undefined;
  let asking: Promise<readonly string[]> | undefined;

  async function ask(): Promise<readonly string[]> {
    try {
      const lines = gpuLines(await read());
      last = { lines, at: now() };
      return lines;
    } catch (error) {
      if (last !== undefined) return last.lines;
      const sentence = error instanceof Error ? error.message : String(error);
      throw new RefusedError({ exitCode: 69, cudaError: "CUDA_ERROR_SYSTEM_NOT_READY", sentence });
    } finally {
      asking = undefined;
    }
  }

  return {
    lines() {
      if (last !== undefined && now() - last.at < FRESH_MS) return Promise.resolve(last.lines);
      asking ??= ask();
      return asking;
    },
  };
}

/** What NVML is to tell, line by line; what nobody knows is left out. */
export function gpuLines({ driverVersion, driverRelease, simulated, gpus }: ToldGpus): readonly string[] {
  return [
    `cuda ${driverVersion}`,
    ...(driverRelease === null ? [] : [`release ${driverRelease}`]),
    ...(simulated === null ? [] : [`simulated ${simulated ? "yes" : "no"}`]),
    ...gpus.flatMap((gpu) => [
      `gpu ${gpu.uuid}`,
      `name ${gpu.name}`,
      `pci ${gpu.pciBusId}`,
      `capability ${gpu.computeCapability}`,
      `multiprocessors ${gpu.multiprocessors}`,
      `memory ${gpu.memoryTotalBytes} ${gpu.memoryUsedBytes}`,
      `busy ${gpu.busyPercent}`,
      ...healthLines(gpu.health),
      ...gpu.processes.map(
        ({ pid, memoryUsedBytes, busyPercent, program }) =>
          `process ${pid} ${memoryUsedBytes} ${busyPercent ?? "-"} ${program.replaceAll(/[\r\n]/g, " ")}`,
      ),
    ]),
  ];
}

function healthLines(health: SessionGpus["gpus"][number]["health"]): readonly string[] {
  if (health === null) return [];
  const { temperatureCelsius, eccCorrected, eccUncorrected, throttling, mig } = health;
  const lines: string[] = [];
  if (temperatureCelsius !== null) lines.push(`temperature ${Math.max(0, temperatureCelsius)}`);
  if (eccCorrected !== null && eccUncorrected !== null) lines.push(`ecc ${eccCorrected} ${eccUncorrected}`);
  if (throttling !== null)
    lines.push(`throttling ${throttling.reduce((sum, name) => sum | (REASONS[name] ?? 0), 0)}`);
  if (mig !== null) lines.push(`mig ${mig}`);
  return lines;
}

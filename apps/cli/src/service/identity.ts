import { createHash } from "node:crypto";
import {
  FarpoolError,
  gpuUuidSchema,
  type GpuUuid,
  type ServiceModel,
  type SessionGpus,
  type Thumbprint,
} from "@farpool/contract";
import type { ToldGpus } from "../run/gpu-facts.ts";
import type { GpuIdentity } from "./state-file.ts";

/** CUDA's numbers of the attributes that NVML tells, too. */
const MULTIPROCESSOR_COUNT = 16;
const COMPUTE_CAPABILITY_MAJOR = 75;
const COMPUTE_CAPABILITY_MINOR = 76;

/**
 * What programs are told of the service's GPUs before there are any, and what stays true when there are: model, size and
 * attributes of the pool's GPUs, UUIDs and addresses of its own.
 */
export function makeIdentity(model: ServiceModel, count: number, clientKey: Thumbprint): GpuIdentity {
  return {
    model: model.name,
    memoryTotalBytes: model.memoryTotalBytes,
    memoryBytes: model.memoryBytes,
    driverVersion: model.driverVersion,
    attributes: model.attributes,
    gpus: Array.from({ length: count }, (_, index) => ({
      uuid: uuidOf(`${clientKey} ${model.name} ${model.memoryTotalBytes} ${index}`),
      // A domain of our own: no bus of this machine has it.
      pciBusId: `000F:${(index + 1).toString(16).toUpperCase().padStart(2, "0")}:00.0`,
    })),
  };
}

/** The same GPUs, or others that nobody has been told of yet. */
export function chooseIdentity(
  known: GpuIdentity | null,
  models: readonly ServiceModel[],
  {
    count,
    clientKey,
    isInUse,
  }: { readonly count: number; readonly clientKey: Thumbprint; readonly isInUse: boolean },
): GpuIdentity {
  const usable = models.filter(({ attributes }) => attributes.length > 0);
  const same = usable.find(
    ({ name, memoryTotalBytes }) => name === known?.model && memoryTotalBytes === known.memoryTotalBytes,
  );
  if (known !== null && (isInUse || (same !== undefined && isSame(known, same, count)))) return known;
  const model = same ?? usable[0];
  if (model !== undefined) return makeIdentity(model, count, clientKey);
  if (known !== null) return known;
  throw new FarpoolError("FARPOOL_NEVER_FITS", "the pool has no GPU that this client's service could have", {
    hint: "'farpool gpus' lists what there is, 'farpool admin clients show' what an administrator allows",
  });
}

/** By this a session gets GPUs of the model that programs were told of. */
export function identityFilters({ model, memoryTotalBytes }: GpuIdentity): readonly string[] {
  const mib = Math.floor(memoryTotalBytes / 2 ** 20);
  return [`gpu.name=${model}`, `gpu.memory>=${mib}MiB`, `gpu.memory<${mib + 1}MiB`];
}

/** What NVML tells of the GPUs before there are any. */
export function offeredGpus({ model, memoryBytes, driverVersion, attributes, gpus }: GpuIdentity): ToldGpus {
  const attribute = (wanted: number): number => attributes.find(([number]) => number === wanted)?.[1] ?? 0;
  return {
    driverVersion,
    driverRelease: null,
    simulated: null,
    gpus: gpus.map((names) => ({
      ...names,
      name: model,
      computeCapability: `${attribute(COMPUTE_CAPABILITY_MAJOR)}.${attribute(COMPUTE_CAPABILITY_MINOR)}`,
      multiprocessors: attribute(MULTIPROCESSOR_COUNT),
      memoryTotalBytes: memoryBytes,
      memoryUsedBytes: 0,
      busyPercent: 0,
      health: null,
      processes: [],
    })),
  };
}

/** What the pool tells of a session's GPUs, by the names that CUDA's programs are told. */
export function asNamed(told: SessionGpus, { driverVersion, gpus }: GpuIdentity): SessionGpus {
  return { ...told, driverVersion, gpus: told.gpus.map((gpu, index) => ({ ...gpu, ...gpus[index] })) };
}

function isSame(known: GpuIdentity, model: ServiceModel, count: number): boolean {
  return known.gpus.length === count && known.memoryBytes === model.memoryBytes;
}

/** As version 8 of RFC 9562 has it: 122 bits of our own. */
function uuidOf(seed: string): GpuUuid {
  const bytes = createHash("sha256").update(`farpool service gpu ${seed}`).digest().subarray(0, 16);
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)];
  return gpuUuidSchema.parse(`GPU-${parts.join("-")}`);
}

/** Types of NVML's signatures. Sizes and offsets are checked against nvml.h by a compiled test (nvml-header.test.ts). */

import type { Values } from "../cuda/enums.ts";
import type { Struct } from "../cuda/structs.ts";

/** Opaque pointers. */
export const nvmlHandles: readonly string[] = ["nvmlDevice_t"];

/** Names for plain numbers. */
export const nvmlAliases: Readonly<Record<string, string>> = {
  nvmlDeviceArchitecture_t: "u32",
  nvmlPciInfoExt_t: "nvmlPciInfoExt_v1_t",
  nvmlProcessInfo_v2_t: "nvmlProcessInfo_t",
  nvmlTemperature_t: "nvmlTemperature_v1_t",
  nvmlUUID_t: "nvmlUUID_v1_t",
};

/** Structures that are only pointed to. */
export const nvmlOpaque: readonly string[] = ["nvmlHwbcEntry_t"];

export const nvmlEnums: Readonly<Record<string, Values>> = {
  nvmlEnableState_t: [
    ["NVML_FEATURE_DISABLED", 0],
    ["NVML_FEATURE_ENABLED", 1],
  ],
  nvmlBrandType_t: [["NVML_BRAND_UNKNOWN", 0]],
  nvmlTemperatureSensors_t: [["NVML_TEMPERATURE_GPU", 0]],
  nvmlComputeMode_t: [["NVML_COMPUTEMODE_DEFAULT", 0]],
  nvmlMemoryErrorType_t: [
    ["NVML_MEMORY_ERROR_TYPE_CORRECTED", 0],
    ["NVML_MEMORY_ERROR_TYPE_UNCORRECTED", 1],
  ],
  nvmlEccCounterType_t: [
    ["NVML_VOLATILE_ECC", 0],
    ["NVML_AGGREGATE_ECC", 1],
  ],
  nvmlGpuVirtualizationMode_t: [["NVML_GPU_VIRTUALIZATION_MODE_NONE", 0]],
};

export const nvmlConstants: readonly (readonly [name: string, type: string, value: number])[] = [
  ["NVML_INIT_FLAG_NO_GPUS", "u32", 1],
  ["NVML_DEVICE_ARCH_MAXWELL", "u32", 3],
  ["NVML_DEVICE_ARCH_PASCAL", "u32", 4],
  ["NVML_DEVICE_ARCH_VOLTA", "u32", 5],
  ["NVML_DEVICE_ARCH_TURING", "u32", 6],
  ["NVML_DEVICE_ARCH_AMPERE", "u32", 7],
  ["NVML_DEVICE_ARCH_ADA", "u32", 8],
  ["NVML_DEVICE_ARCH_HOPPER", "u32", 9],
  ["NVML_DEVICE_ARCH_BLACKWELL", "u32", 10],
  ["NVML_UUID_TYPE_ASCII", "u32", 1],
  ["NVML_UUID_TYPE_BINARY", "u32", 2],
];

export const nvmlStructs: readonly Struct[] = [
  {
    name: "nvmlPciInfo_t",
    size: 68,
    align: 4,
    fields: [
      ["busIdLegacy", "char[16]", 0],
      ["domain", "unsigned int", 16],
      ["bus", "unsigned int", 20],
      ["device", "unsigned int", 24],
      ["pciDeviceId", "unsigned int", 28],
      ["pciSubSystemId", "unsigned int", 32],
      ["busId", "char[32]", 36],
    ],
  },
  {
    name: "nvmlPciInfoExt_v1_t",
    size: 64,
    align: 4,
    fields: [
      ["version", "unsigned int", 0],
      ["domain", "unsigned int", 4],
      ["bus", "unsigned int", 8],
      ["device", "unsigned int", 12],
      ["pciDeviceId", "unsigned int", 16],
      ["pciSubSystemId", "unsigned int", 20],
      ["baseClass", "unsigned int", 24],
      ["subClass", "unsigned int", 28],
      ["busId", "char[32]", 32],
    ],
  },
  {
    name: "nvmlUUID_v1_t",
    size: 52,
    align: 4,
    fields: [
      ["version", "unsigned int", 0],
      ["type", "unsigned int", 4],
      // A union of text and 16 bytes.
      ["value", "char[41]", 8],
    ],
  },
  {
    name: "nvmlMemory_t",
    size: 24,
    align: 8,
    fields: [
      ["total", "unsigned long long", 0],
      ["free", "unsigned long long", 8],
      ["used", "unsigned long long", 16],
    ],
  },
  {
    name: "nvmlMemory_v2_t",
    size: 40,
    align: 8,
    fields: [
      ["version", "unsigned int", 0],
      ["total", "unsigned long long", 8],
      ["reserved", "unsigned long long", 16],
      ["free", "unsigned long long", 24],
      ["used", "unsigned long long", 32],
    ],
  },
  {
    name: "nvmlUtilization_t",
    size: 8,
    align: 4,
    fields: [
      ["gpu", "unsigned int", 0],
      ["memory", "unsigned int", 4],
    ],
  },
  {
    name: "nvmlTemperature_v1_t",
    size: 12,
    align: 4,
    fields: [
      ["version", "unsigned int", 0],
      ["sensorType", "nvmlTemperatureSensors_t", 4],
      ["temperature", "int", 8],
    ],
  },
  {
    name: "nvmlProcessInfo_v1_t",
    size: 16,
    align: 8,
    fields: [
      ["pid", "unsigned int", 0],
      ["usedGpuMemory", "unsigned long long", 8],
    ],
  },
  {
    name: "nvmlProcessInfo_t",
    size: 24,
    align: 8,
    fields: [
      ["pid", "unsigned int", 0],
      ["usedGpuMemory", "unsigned long long", 8],
      ["gpuInstanceId", "unsigned int", 16],
      ["computeInstanceId", "unsigned int", 20],
    ],
  },
  {
    name: "nvmlProcessUtilizationSample_t",
    size: 32,
    align: 8,
    fields: [
      ["pid", "unsigned int", 0],
      ["timeStamp", "unsigned long long", 8],
      ["smUtil", "unsigned int", 16],
      ["memUtil", "unsigned int", 20],
      ["encUtil", "unsigned int", 24],
      ["decUtil", "unsigned int", 28],
    ],
  },
  {
    name: "nvmlFieldValue_t",
    size: 40,
    align: 8,
    fields: [
      ["fieldId", "unsigned int", 0],
      ["scopeId", "unsigned int", 4],
      ["timestamp", "long long", 8],
      ["latencyUsec", "long long", 16],
      ["valueType", "unsigned int", 24],
      ["nvmlReturn", "nvmlReturn_t", 28],
      // A union of numbers.
      ["value", "unsigned long long", 32],
    ],
  },
];

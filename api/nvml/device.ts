import { input, output } from "../model.ts";
import { answered, nvmlNoun, type NvmlNoun } from "./model.ts";

const device = input("device", "nvmlDevice_t");
const found = output("device", "nvmlDevice_t *");
const number = (name: string) => output(name, "unsigned int *");

/** Which GPUs there are, and what stays the same of them. */
export const devices: NvmlNoun = nvmlNoun("device", [
  answered("nvmlDeviceGetCount", [number("deviceCount")]),
  answered("nvmlDeviceGetCount_v2", [number("deviceCount")]),
  answered("nvmlDeviceGetHandleByIndex", [input("index", "unsigned int"), found]),
  answered("nvmlDeviceGetHandleByIndex_v2", [input("index", "unsigned int"), found]),
  answered("nvmlDeviceGetHandleBySerial", [input("serial", "const char *"), found]),
  answered("nvmlDeviceGetHandleByUUID", [input("uuid", "const char *"), found]),
  answered("nvmlDeviceGetHandleByUUIDV", [input("uuid", "const nvmlUUID_t *"), found]),
  answered("nvmlDeviceGetHandleByPciBusId", [input("pciBusId", "const char *"), found]),
  answered("nvmlDeviceGetHandleByPciBusId_v2", [input("pciBusId", "const char *"), found]),
  answered("nvmlDeviceGetName", [
    device,
    output("name", "char *", { length: "length" }),
    input("length", "unsigned int"),
  ]),
  answered("nvmlDeviceGetUUID", [
    device,
    output("uuid", "char *", { length: "length" }),
    input("length", "unsigned int"),
  ]),
  answered("nvmlDeviceGetIndex", [device, number("index")]),
  answered("nvmlDeviceGetMinorNumber", [device, number("minorNumber")]),
  answered("nvmlDeviceGetBrand", [device, output("type", "nvmlBrandType_t *")]),
  answered("nvmlDeviceGetArchitecture", [device, output("arch", "nvmlDeviceArchitecture_t *")]),
  answered("nvmlDeviceGetBoardId", [device, number("boardId")]),
  answered("nvmlDeviceGetMultiGpuBoard", [device, number("multiGpuBool")]),
  answered("nvmlDeviceOnSameBoard", [
    input("device1", "nvmlDevice_t"),
    input("device2", "nvmlDevice_t"),
    output("onSameBoard", "int *"),
  ]),
  answered("nvmlDeviceGetPciInfo", [device, output("pci", "nvmlPciInfo_t *")]),
  answered("nvmlDeviceGetPciInfo_v2", [device, output("pci", "nvmlPciInfo_t *")]),
  answered("nvmlDeviceGetPciInfo_v3", [device, output("pci", "nvmlPciInfo_t *")]),
  answered("nvmlDeviceGetPciInfoExt", [device, output("pci", "nvmlPciInfoExt_t *")]),
  answered("nvmlDeviceGetCudaComputeCapability", [
    device,
    output("major", "int *"),
    output("minor", "int *"),
  ]),
  answered("nvmlDeviceGetNumGpuCores", [device, number("numCores")]),
  answered("nvmlDeviceIsMigDeviceHandle", [device, number("isMigDevice")]),
  answered("nvmlDeviceGetMaxMigDeviceCount", [device, number("count")]),
  answered("nvmlDeviceGetMigMode", [device, number("currentMode"), number("pendingMode")]),
  answered("nvmlDeviceGetVirtualizationMode", [
    device,
    output("pVirtualMode", "nvmlGpuVirtualizationMode_t *"),
  ]),
]);

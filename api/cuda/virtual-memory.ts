import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const virtualMemory: Noun = noun("virtual-memory", [
  unsupported("cuMemAddressFree", { id: 0x1300, since: 10020 }, [
    input("ptr", "CUdeviceptr"),
    input("size", "size_t"),
  ]),
  unsupported("cuMemAddressReserve", { id: 0x1301, since: 10020 }, [
    output("ptr", "CUdeviceptr *"),
    input("size", "size_t"),
    input("alignment", "size_t"),
    input("addr", "CUdeviceptr"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemCreate", { id: 0x1302, since: 10020 }, [
    output("handle", "CUmemGenericAllocationHandle *"),
    input("size", "size_t"),
    input("prop", "const CUmemAllocationProp *"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemExportToShareableHandle", { id: 0x1303, since: 10020 }, [
    output("shareableHandle", "void *"),
    input("handle", "CUmemGenericAllocationHandle"),
    input("handleType", "CUmemAllocationHandleType"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemGetAccess", { id: 0x1304, since: 10020 }, [
    output("flags", "unsigned long long *"),
    input("location", "const CUmemLocation *"),
    input("ptr", "CUdeviceptr"),
  ]),
  unsupported("cuMemGetAllocationGranularity", { id: 0x1305, since: 10020 }, [
    output("granularity", "size_t *"),
    input("prop", "const CUmemAllocationProp *"),
    input("option", "CUmemAllocationGranularity_flags"),
  ]),
  unsupported("cuMemGetAllocationPropertiesFromHandle", { id: 0x1306, since: 10020 }, [
    output("prop", "CUmemAllocationProp *"),
    input("handle", "CUmemGenericAllocationHandle"),
  ]),
  unsupported("cuMemGetHandleForAddressRange", { id: 0x1307, since: 11070 }, [
    output("handle", "void *"),
    input("dptr", "CUdeviceptr"),
    input("size", "size_t"),
    input("handleType", "CUmemRangeHandleType"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemImportFromShareableHandle", { id: 0x1308, since: 10020 }, [
    output("handle", "CUmemGenericAllocationHandle *"),
    input("osHandle", "void *"),
    input("shHandleType", "CUmemAllocationHandleType"),
  ]),
  unsupported("cuMemMap", { id: 0x1309, since: 10020 }, [
    input("ptr", "CUdeviceptr"),
    input("size", "size_t"),
    input("offset", "size_t"),
    input("handle", "CUmemGenericAllocationHandle"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemRelease", { id: 0x130a, since: 10020 }, [
    input("handle", "CUmemGenericAllocationHandle"),
  ]),
  unsupported("cuMemRetainAllocationHandle", { id: 0x130b, since: 11000 }, [
    output("handle", "CUmemGenericAllocationHandle *"),
    input("addr", "void *"),
  ]),
  unsupported("cuMemSetAccess", { id: 0x130c, since: 10020 }, [
    input("ptr", "CUdeviceptr"),
    input("size", "size_t"),
    input("desc", "const CUmemAccessDesc *", { length: "count" }),
    input("count", "size_t"),
  ]),
  unsupported("cuMemUnmap", { id: 0x130d, since: 10020 }, [
    input("ptr", "CUdeviceptr"),
    input("size", "size_t"),
  ]),
]);

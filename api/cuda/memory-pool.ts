import { creates, input, local, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const memoryPool: Noun = noun("memory-pool", [
  local("cuDeviceGetDefaultMemPool", { id: 0x1100, since: 11020 }, [
    output("pool_out", "CUmemoryPool *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetMemPool", { id: 0x1101, since: 11020 }, [
    output("pool", "CUmemoryPool *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceSetMemPool", { id: 0x1102, since: 11020 }, [
    input("dev", "CUdevice"),
    input("pool", "CUmemoryPool"),
  ]),
  manual("cuMemAllocAsync", { id: 0x1103, since: 11020, perThread: { suffix: "ptsz", since: 11020 } }, [
    output("dptr", "CUdeviceptr *"),
    input("bytesize", "size_t"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  manual(
    "cuMemAllocFromPoolAsync",
    {
      id: 0x1104,
      since: 11020,
      perThread: { suffix: "ptsz", since: 11020 },
      wire: { request: { pool: "MemoryPool", size: "u64", stream: "Stream" }, reply: { address: "u64" } },
    },
    [
      output("dptr", "CUdeviceptr *"),
      input("bytesize", "size_t"),
      input("pool", "CUmemoryPool"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemBatchDecompressAsync",
    {
      id: 0x1105,
      since: 12060,
      perThread: { suffix: "ptsz", since: 12060 },
    },
    [
      input("paramsArray", "CUmemDecompressParams *", { length: "count" }),
      input("count", "size_t"),
      input("flags", "unsigned int"),
      output("errorIndex", "size_t *"),
      input("stream", "CUstream", { nullable: true }),
    ],
  ),
  manual(
    "cuMemFreeAsync",
    {
      id: 0x1106,
      since: 11020,
      perThread: { suffix: "ptsz", since: 11020 },
      wire: { request: { address: "u64", stream: "Stream" } },
    },
    [input("dptr", "CUdeviceptr"), input("hStream", "CUstream", { nullable: true })],
  ),
  local("cuMemGetDefaultMemPool", { id: 0x1107, since: 13000 }, [
    output("pool_out", "CUmemoryPool *"),
    input("location", "CUmemLocation *"),
    input("type", "CUmemAllocationType"),
  ]),
  local("cuMemGetMemPool", { id: 0x1108, since: 13000 }, [
    output("pool", "CUmemoryPool *"),
    input("location", "CUmemLocation *"),
    input("type", "CUmemAllocationType"),
  ]),
  manual(
    "cuMemPoolCreate",
    {
      id: 0x1109,
      since: 11020,
      wire: { request: { pool: "new MemoryPool", device: "i32", maxSize: "u64" } },
    },
    [creates("pool", "CUmemoryPool *"), input("poolProps", "const CUmemPoolProps *")],
  ),
  manual("cuMemPoolDestroy", { id: 0x110a, since: 11020, wire: { request: { pool: "MemoryPool" } } }, [
    input("pool", "CUmemoryPool"),
  ]),
  unsupported("cuMemPoolExportPointer", { id: 0x110b, since: 11020 }, [
    output("shareData_out", "CUmemPoolPtrExportData *"),
    input("ptr", "CUdeviceptr"),
  ]),
  unsupported("cuMemPoolExportToShareableHandle", { id: 0x110c, since: 11020 }, [
    output("handle_out", "void *"),
    input("pool", "CUmemoryPool"),
    input("handleType", "CUmemAllocationHandleType"),
    input("flags", "unsigned long long"),
  ]),
  local("cuMemPoolGetAccess", { id: 0x110d, since: 11020 }, [
    output("flags", "CUmemAccess_flags *"),
    input("memPool", "CUmemoryPool"),
    input("location", "CUmemLocation *"),
  ]),
  manual(
    "cuMemPoolGetAttribute",
    {
      id: 0x110e,
      since: 11020,
      wire: { request: { pool: "MemoryPool", attribute: "i32" }, reply: { value: "u64" } },
    },
    [input("pool", "CUmemoryPool"), input("attr", "CUmemPool_attribute"), output("value", "void *")],
  ),
  unsupported("cuMemPoolImportFromShareableHandle", { id: 0x110f, since: 11020 }, [
    output("pool_out", "CUmemoryPool *"),
    input("handle", "void *"),
    input("handleType", "CUmemAllocationHandleType"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMemPoolImportPointer", { id: 0x1110, since: 11020 }, [
    output("ptr_out", "CUdeviceptr *"),
    input("pool", "CUmemoryPool"),
    input("shareData", "CUmemPoolPtrExportData *"),
  ]),
  manual(
    "cuMemPoolSetAccess",
    { id: 0x1111, since: 11020, wire: { request: { pool: "MemoryPool", device: "i32", flags: "u32" } } },
    [
      input("pool", "CUmemoryPool"),
      input("map", "const CUmemAccessDesc *", { length: "count" }),
      input("count", "size_t"),
    ],
  ),
  manual(
    "cuMemPoolSetAttribute",
    { id: 0x1112, since: 11020, wire: { request: { pool: "MemoryPool", attribute: "i32", value: "u64" } } },
    [input("pool", "CUmemoryPool"), input("attr", "CUmemPool_attribute"), input("value", "void *")],
  ),
  manual(
    "cuMemPoolTrimTo",
    { id: 0x1113, since: 11020, wire: { request: { pool: "MemoryPool", keep: "u64" } } },
    [input("pool", "CUmemoryPool"), input("minBytesToKeep", "size_t")],
  ),
  local("cuMemSetMemPool", { id: 0x1114, since: 13000 }, [
    input("location", "CUmemLocation *"),
    input("type", "CUmemAllocationType"),
    input("pool", "CUmemoryPool"),
  ]),
]);

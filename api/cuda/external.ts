import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const external: Noun = noun("external", [
  unsupported("cuDestroyExternalMemory", { id: 0x1900, since: 10000 }, [input("extMem", "CUexternalMemory")]),
  unsupported("cuDestroyExternalSemaphore", { id: 0x1901, since: 10000 }, [
    input("extSem", "CUexternalSemaphore"),
  ]),
  unsupported("cuDeviceGetNvSciSyncAttributes", { id: 0x1902, since: 10020 }, [
    input("nvSciSyncAttrList", "void *"),
    input("dev", "CUdevice"),
    input("flags", "int"),
  ]),
  unsupported("cuDeviceRegisterAsyncNotification", { id: 0x1903, since: 12040 }, [
    input("device", "CUdevice"),
    input("callbackFunc", "CUasyncCallback"),
    input("userData", "void *"),
    output("callback", "CUasyncCallbackHandle *"),
  ]),
  unsupported("cuDeviceUnregisterAsyncNotification", { id: 0x1904, since: 12040 }, [
    input("device", "CUdevice"),
    input("callback", "CUasyncCallbackHandle"),
  ]),
  unsupported("cuExternalMemoryGetMappedBuffer", { id: 0x1905, since: 10000 }, [
    output("devPtr", "CUdeviceptr *"),
    input("extMem", "CUexternalMemory"),
    input("bufferDesc", "const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *"),
  ]),
  unsupported("cuExternalMemoryGetMappedMipmappedArray", { id: 0x1906, since: 10000 }, [
    output("mipmap", "CUmipmappedArray *"),
    input("extMem", "CUexternalMemory"),
    input("mipmapDesc", "const CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC *"),
  ]),
  unsupported("cuFlushGPUDirectRDMAWrites", { id: 0x1907, since: 11030 }, [
    input("target", "CUflushGPUDirectRDMAWritesTarget"),
    input("scope", "CUflushGPUDirectRDMAWritesScope"),
  ]),
  unsupported(
    "cuGraphicsMapResources",
    {
      id: 0x1908,
      since: 3000,
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("count", "unsigned int"),
      input("resources", "CUgraphicsResource *", { length: "count" }),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuGraphicsResourceGetMappedMipmappedArray", { id: 0x1909, since: 5000 }, [
    output("pMipmappedArray", "CUmipmappedArray *"),
    input("resource", "CUgraphicsResource"),
  ]),
  unsupported("cuGraphicsResourceGetMappedPointer", { id: 0x190a, since: 3000 }, [
    output("pDevPtr", "CUdeviceptr_v1 *"),
    output("pSize", "unsigned int *"),
    input("resource", "CUgraphicsResource"),
  ]),
  unsupported("cuGraphicsResourceGetMappedPointer_v2", { id: 0x190b, since: 3020 }, [
    output("pDevPtr", "CUdeviceptr *"),
    output("pSize", "size_t *"),
    input("resource", "CUgraphicsResource"),
  ]),
  unsupported("cuGraphicsResourceSetMapFlags", { id: 0x190c, since: 3000 }, [
    input("resource", "CUgraphicsResource"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuGraphicsResourceSetMapFlags_v2", { id: 0x190d, since: 6050 }, [
    input("resource", "CUgraphicsResource"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuGraphicsSubResourceGetMappedArray", { id: 0x190e, since: 3000 }, [
    output("pArray", "CUarray *"),
    input("resource", "CUgraphicsResource"),
    input("arrayIndex", "unsigned int"),
    input("mipLevel", "unsigned int"),
  ]),
  unsupported(
    "cuGraphicsUnmapResources",
    {
      id: 0x190f,
      since: 3000,
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("count", "unsigned int"),
      input("resources", "CUgraphicsResource *", { length: "count" }),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuGraphicsUnregisterResource", { id: 0x1910, since: 3000 }, [
    input("resource", "CUgraphicsResource"),
  ]),
  unsupported("cuImportExternalMemory", { id: 0x1911, since: 10000 }, [
    output("extMem_out", "CUexternalMemory *"),
    input("memHandleDesc", "const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *"),
  ]),
  unsupported("cuImportExternalSemaphore", { id: 0x1912, since: 10000 }, [
    output("extSem_out", "CUexternalSemaphore *"),
    input("semHandleDesc", "const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *"),
  ]),
  unsupported(
    "cuSignalExternalSemaphoresAsync",
    {
      id: 0x1913,
      since: 10000,
      perThread: { suffix: "ptsz", since: 10000 },
    },
    [
      input("extSemArray", "const CUexternalSemaphore *", { length: "numExtSems" }),
      input("paramsArray", "const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *", { length: "numExtSems" }),
      input("numExtSems", "unsigned int"),
      input("stream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuWaitExternalSemaphoresAsync",
    {
      id: 0x1914,
      since: 10000,
      perThread: { suffix: "ptsz", since: 10000 },
    },
    [
      input("extSemArray", "const CUexternalSemaphore *", { length: "numExtSems" }),
      input("paramsArray", "const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *", { length: "numExtSems" }),
      input("numExtSems", "unsigned int"),
      input("stream", "CUstream", { nullable: true }),
    ],
  ),
]);

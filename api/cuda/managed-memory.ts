import { input, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const managedMemory: Noun = noun("managed-memory", [
  // Answers whether there is one; what is there is refused by name.
  manual(
    "cuLibraryGetManaged",
    { id: 0x1200, since: 12000, wire: { request: { library: "Library", name: "bytes" } } },
    [
      output("dptr", "CUdeviceptr *", { nullable: true }),
      output("bytes", "size_t *", { nullable: true }),
      input("library", "CUlibrary"),
      input("name", "const char *"),
    ],
  ),
  unsupported("cuMemAdvise", { id: 0x1201, since: 8000 }, [
    input("devPtr", "CUdeviceptr"),
    input("count", "size_t"),
    input("advice", "CUmem_advise"),
    input("device", "CUdevice"),
  ]),
  unsupported("cuMemAdvise_v2", { id: 0x1202, since: 12020 }, [
    input("devPtr", "CUdeviceptr"),
    input("count", "size_t"),
    input("advice", "CUmem_advise"),
    input("location", "CUmemLocation"),
  ]),
  unsupported("cuMemAllocManaged", { id: 0x1203, since: 6000 }, [
    output("dptr", "CUdeviceptr *"),
    input("bytesize", "size_t"),
    input("flags", "unsigned int"),
  ]),
  unsupported(
    "cuMemDiscardAndPrefetchBatchAsync",
    {
      id: 0x1204,
      since: 13000,
      perThread: { suffix: "ptsz", since: 13000 },
    },
    [
      input("dptrs", "CUdeviceptr *", { length: "count" }),
      input("sizes", "size_t *", { length: "count" }),
      input("count", "size_t"),
      input("prefetchLocs", "CUmemLocation *", { length: "numPrefetchLocs" }),
      input("prefetchLocIdxs", "size_t *", { length: "numPrefetchLocs" }),
      input("numPrefetchLocs", "size_t"),
      input("flags", "unsigned long long"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemDiscardBatchAsync",
    {
      id: 0x1205,
      since: 13000,
      perThread: { suffix: "ptsz", since: 13000 },
    },
    [
      input("dptrs", "CUdeviceptr *", { length: "count" }),
      input("sizes", "size_t *", { length: "count" }),
      input("count", "size_t"),
      input("flags", "unsigned long long"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemPrefetchAsync", { id: 0x1206, since: 8000, perThread: { suffix: "ptsz", since: 8000 } }, [
    input("devPtr", "CUdeviceptr"),
    input("count", "size_t"),
    input("dstDevice", "CUdevice"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  unsupported(
    "cuMemPrefetchAsync_v2",
    {
      id: 0x1207,
      since: 12020,
      perThread: { suffix: "ptsz", since: 12020 },
    },
    [
      input("devPtr", "CUdeviceptr"),
      input("count", "size_t"),
      input("location", "CUmemLocation"),
      input("flags", "unsigned int"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemPrefetchBatchAsync",
    {
      id: 0x1208,
      since: 13000,
      perThread: { suffix: "ptsz", since: 13000 },
    },
    [
      input("dptrs", "CUdeviceptr *", { length: "count" }),
      input("sizes", "size_t *", { length: "count" }),
      input("count", "size_t"),
      input("prefetchLocs", "CUmemLocation *", { length: "numPrefetchLocs" }),
      input("prefetchLocIdxs", "size_t *", { length: "numPrefetchLocs" }),
      input("numPrefetchLocs", "size_t"),
      input("flags", "unsigned long long"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemRangeGetAttribute", { id: 0x1209, since: 8000 }, [
    output("data", "void *"),
    input("dataSize", "size_t"),
    input("attribute", "CUmem_range_attribute"),
    input("devPtr", "CUdeviceptr"),
    input("count", "size_t"),
  ]),
  unsupported("cuMemRangeGetAttributes", { id: 0x120a, since: 8000 }, [
    output("data", "void **", { length: "numAttributes" }),
    input("dataSizes", "size_t *", { length: "numAttributes" }),
    input("attributes", "CUmem_range_attribute *", { length: "numAttributes" }),
    input("numAttributes", "size_t"),
    input("devPtr", "CUdeviceptr"),
    input("count", "size_t"),
  ]),
  unsupported(
    "cuStreamAttachMemAsync",
    {
      id: 0x120b,
      since: 6000,
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("dptr", "CUdeviceptr"),
      input("length", "size_t"),
      input("flags", "unsigned int"),
    ],
  ),
]);

import { input, manual, noun, oneWay, output, unsupported, type Noun } from "../model.ts";

export const copy: Noun = noun("copy", [
  manual(
    "cuMemcpy",
    {
      id: 0x0900,
      since: 4000,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpyAsync", waits: true },
    },
    [input("dst", "CUdeviceptr"), input("src", "CUdeviceptr"), input("ByteCount", "size_t")],
  ),
  unsupported("cuMemcpy2D", { id: 0x0901, since: 2000 }, [input("pCopy", "const CUDA_MEMCPY2D_v1 *")]),
  manual(
    "cuMemcpy2D_v2",
    {
      id: 0x0902,
      since: 3020,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpy2DAsync_v2", waits: true },
    },
    [input("pCopy", "const CUDA_MEMCPY2D *")],
  ),
  unsupported("cuMemcpy2DAsync", { id: 0x0903, since: 2000 }, [
    input("pCopy", "const CUDA_MEMCPY2D_v1 *"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  manual("cuMemcpy2DAsync_v2", { id: 0x0904, since: 3020, perThread: { suffix: "ptsz", since: 7000 } }, [
    input("pCopy", "const CUDA_MEMCPY2D *"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  unsupported("cuMemcpy2DUnaligned", { id: 0x0905, since: 2000 }, [
    input("pCopy", "const CUDA_MEMCPY2D_v1 *"),
  ]),
  manual(
    "cuMemcpy2DUnaligned_v2",
    {
      id: 0x0906,
      since: 3020,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpy2DAsync_v2", waits: true },
      alias: "cuMemcpy2D_v2",
    },
    [input("pCopy", "const CUDA_MEMCPY2D *")],
  ),
  unsupported("cuMemcpy3D", { id: 0x0907, since: 2000 }, [input("pCopy", "const CUDA_MEMCPY3D_v1 *")]),
  manual(
    "cuMemcpy3D_v2",
    {
      id: 0x0908,
      since: 3020,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpy3DAsync_v2", waits: true },
    },
    [input("pCopy", "const CUDA_MEMCPY3D *")],
  ),
  unsupported("cuMemcpy3DAsync", { id: 0x0909, since: 2000 }, [
    input("pCopy", "const CUDA_MEMCPY3D_v1 *"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  manual(
    "cuMemcpy3DAsync_v2",
    {
      id: 0x090a,
      since: 3020,
      perThread: { suffix: "ptsz", since: 7000 },
      wire: {
        request: {
          sourceAddress: "u64",
          sourcePitch: "u64",
          sourceHeight: "u64",
          sourceX: "u64",
          sourceY: "u64",
          sourceZ: "u64",
          destinationAddress: "u64",
          destinationPitch: "u64",
          destinationHeight: "u64",
          destinationX: "u64",
          destinationY: "u64",
          destinationZ: "u64",
          width: "u64",
          height: "u64",
          depth: "u64",
          stream: "Stream",
          direction: "u32",
          data: "bytes",
        },
        reply: { data: "rest" },
      },
    },
    [input("pCopy", "const CUDA_MEMCPY3D *"), input("hStream", "CUstream", { nullable: true })],
  ),
  unsupported(
    "cuMemcpy3DBatchAsync",
    {
      id: 0x090b,
      since: 12080,
      perThread: { suffix: "ptsz", since: 12080 },
    },
    [
      input("numOps", "size_t"),
      input("opList", "CUDA_MEMCPY3D_BATCH_OP *", { length: "numOps" }),
      output("failIdx", "size_t *"),
      input("flags", "unsigned long long"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemcpy3DBatchAsync_v2",
    {
      id: 0x090c,
      since: 13000,
      perThread: { suffix: "ptsz", since: 13000 },
    },
    [
      input("numOps", "size_t"),
      input("opList", "CUDA_MEMCPY3D_BATCH_OP *", { length: "numOps" }),
      input("flags", "unsigned long long"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemcpy3DPeer",
    {
      id: 0x090d,
      since: 4000,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpy3DPeerAsync" },
    },
    [input("pCopy", "const CUDA_MEMCPY3D_PEER *")],
  ),
  unsupported(
    "cuMemcpy3DPeerAsync",
    { id: 0x090e, since: 4000, perThread: { suffix: "ptsz", since: 7000 } },
    [input("pCopy", "const CUDA_MEMCPY3D_PEER *"), input("hStream", "CUstream", { nullable: true })],
  ),
  manual("cuMemcpyAsync", { id: 0x090f, since: 4000, perThread: { suffix: "ptsz", since: 7000 } }, [
    input("dst", "CUdeviceptr"),
    input("src", "CUdeviceptr"),
    input("ByteCount", "size_t"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  unsupported(
    "cuMemcpyBatchAsync",
    { id: 0x0910, since: 12080, perThread: { suffix: "ptsz", since: 12080 } },
    [
      input("dsts", "CUdeviceptr *", { length: "count" }),
      input("srcs", "CUdeviceptr *", { length: "count" }),
      input("sizes", "size_t *", { length: "count" }),
      input("count", "size_t"),
      input("attrs", "CUmemcpyAttributes *", { length: "numAttrs" }),
      input("attrsIdxs", "size_t *", { length: "numAttrs" }),
      input("numAttrs", "size_t"),
      output("failIdx", "size_t *"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported(
    "cuMemcpyBatchAsync_v2",
    {
      id: 0x0911,
      since: 13000,
      perThread: { suffix: "ptsz", since: 13000 },
    },
    [
      input("dsts", "CUdeviceptr *", { length: "count" }),
      input("srcs", "CUdeviceptr *", { length: "count" }),
      input("sizes", "size_t *", { length: "count" }),
      input("count", "size_t"),
      input("attrs", "CUmemcpyAttributes *", { length: "numAttrs" }),
      input("attrsIdxs", "size_t *", { length: "numAttrs" }),
      input("numAttrs", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemcpyDtoD", { id: 0x0912, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("srcDevice", "CUdeviceptr_v1"),
    input("ByteCount", "unsigned int"),
  ]),
  oneWay(
    "cuMemcpyDtoD_v2",
    {
      id: 0x0913,
      since: 3020,
      check: "copy_on_devices(client, dstDevice, srcDevice, ByteCount)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpyDtoDAsync_v2" },
    },
    [input("dstDevice", "CUdeviceptr"), input("srcDevice", "CUdeviceptr"), input("ByteCount", "size_t")],
  ),
  unsupported("cuMemcpyDtoDAsync", { id: 0x0914, since: 3000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("srcDevice", "CUdeviceptr_v1"),
    input("ByteCount", "unsigned int"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  oneWay(
    "cuMemcpyDtoDAsync_v2",
    {
      id: 0x0915,
      since: 3020,
      check: "copy_on_devices(client, dstDevice, srcDevice, ByteCount)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("srcDevice", "CUdeviceptr"),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemcpyDtoH", { id: 0x0916, since: 2000 }, [
    output("dstHost", "void *", { length: "ByteCount" }),
    input("srcDevice", "CUdeviceptr_v1"),
    input("ByteCount", "unsigned int"),
  ]),
  manual(
    "cuMemcpyDtoH_v2",
    {
      id: 0x0917,
      since: 3020,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpyDtoHAsync_v2", waits: true },
      wire: { request: { source: "u64", size: "u64" }, reply: { data: "rest" } },
    },
    [
      output("dstHost", "void *", { length: "ByteCount" }),
      input("srcDevice", "CUdeviceptr"),
      input("ByteCount", "size_t"),
    ],
  ),
  unsupported("cuMemcpyDtoHAsync", { id: 0x0918, since: 2000 }, [
    output("dstHost", "void *", { length: "ByteCount" }),
    input("srcDevice", "CUdeviceptr_v1"),
    input("ByteCount", "unsigned int"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  manual(
    "cuMemcpyDtoHAsync_v2",
    {
      id: 0x0919,
      since: 3020,
      perThread: { suffix: "ptsz", since: 7000 },
      wire: { request: { source: "u64", size: "u64", stream: "Stream" }, reply: { data: "rest" } },
    },
    [
      output("dstHost", "void *", { length: "ByteCount" }),
      input("srcDevice", "CUdeviceptr"),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemcpyHtoD", { id: 0x091a, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("srcHost", "const void *", { length: "ByteCount" }),
    input("ByteCount", "unsigned int"),
  ]),
  manual(
    "cuMemcpyHtoD_v2",
    {
      id: 0x091b,
      since: 3020,
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpyHtoDAsync_v2", waits: true },
      wire: { request: { destination: "u64", data: "bytes" } },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("srcHost", "const void *", { length: "ByteCount" }),
      input("ByteCount", "size_t"),
    ],
  ),
  unsupported("cuMemcpyHtoDAsync", { id: 0x091c, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("srcHost", "const void *", { length: "ByteCount" }),
    input("ByteCount", "unsigned int"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  manual(
    "cuMemcpyHtoDAsync_v2",
    {
      id: 0x091d,
      since: 3020,
      perThread: { suffix: "ptsz", since: 7000 },
      wire: { request: { destination: "u64", stream: "Stream", data: "bytes" } },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("srcHost", "const void *", { length: "ByteCount" }),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  oneWay(
    "cuMemcpyPeer",
    {
      id: 0x091e,
      since: 4000,
      check: "copy_on_devices(client, dstDevice, srcDevice, ByteCount)",
      perThread: { suffix: "ptds", since: 7000, streamForm: "cuMemcpyPeerAsync" },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstContext", "CUcontext"),
      input("srcDevice", "CUdeviceptr"),
      input("srcContext", "CUcontext"),
      input("ByteCount", "size_t"),
    ],
  ),
  oneWay(
    "cuMemcpyPeerAsync",
    {
      id: 0x091f,
      since: 4000,
      check: "copy_on_devices(client, dstDevice, srcDevice, ByteCount)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("dstDevice", "CUdeviceptr"),
      input("dstContext", "CUcontext"),
      input("srcDevice", "CUdeviceptr"),
      input("srcContext", "CUcontext"),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
]);

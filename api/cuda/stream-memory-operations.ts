import { input, noun, unsupported, type Noun } from "../model.ts";

export const streamMemoryOperations: Noun = noun("stream-memory-operations", [
  unsupported("cuStreamBatchMemOp", { id: 0x1400, since: 8000, perThread: { suffix: "ptsz", since: 8000 } }, [
    input("stream", "CUstream", { nullable: true }),
    input("count", "unsigned int"),
    input("paramArray", "CUstreamBatchMemOpParams *", { length: "count" }),
    input("flags", "unsigned int"),
  ]),
  unsupported(
    "cuStreamBatchMemOp_v2",
    {
      id: 0x1401,
      since: 11070,
      perThread: { suffix: "ptsz", since: 11070 },
    },
    [
      input("stream", "CUstream", { nullable: true }),
      input("count", "unsigned int"),
      input("paramArray", "CUstreamBatchMemOpParams *", { length: "count" }),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWaitValue32",
    { id: 0x1402, since: 8000, perThread: { suffix: "ptsz", since: 8000 } },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint32_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWaitValue32_v2",
    {
      id: 0x1403,
      since: 11070,
      perThread: { suffix: "ptsz", since: 11070 },
    },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint32_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWaitValue64",
    { id: 0x1404, since: 9000, perThread: { suffix: "ptsz", since: 9000 } },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint64_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWaitValue64_v2",
    {
      id: 0x1405,
      since: 11070,
      perThread: { suffix: "ptsz", since: 11070 },
    },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint64_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWriteValue32",
    { id: 0x1406, since: 8000, perThread: { suffix: "ptsz", since: 8000 } },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint32_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWriteValue32_v2",
    {
      id: 0x1407,
      since: 11070,
      perThread: { suffix: "ptsz", since: 11070 },
    },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint32_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWriteValue64",
    { id: 0x1408, since: 9000, perThread: { suffix: "ptsz", since: 9000 } },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint64_t"),
      input("flags", "unsigned int"),
    ],
  ),
  unsupported(
    "cuStreamWriteValue64_v2",
    {
      id: 0x1409,
      since: 11070,
      perThread: { suffix: "ptsz", since: 11070 },
    },
    [
      input("stream", "CUstream", { nullable: true }),
      input("addr", "CUdeviceptr"),
      input("value", "cuuint64_t"),
      input("flags", "unsigned int"),
    ],
  ),
]);

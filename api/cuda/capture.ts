import { inout, input, local, noun, output, type Noun } from "../model.ts";

export const capture: Noun = noun("capture", [
  local(
    "cuStreamBeginCapture",
    {
      id: 0x1000,
      since: 10000,
      perThread: { suffix: "ptsz", since: 10000 },
    },
    [input("hStream", "CUstream", { nullable: true })],
  ),
  local(
    "cuStreamBeginCapture_v2",
    {
      id: 0x1001,
      since: 10010,
      perThread: { suffix: "ptsz", since: 10010 },
    },
    [input("hStream", "CUstream", { nullable: true }), input("mode", "CUstreamCaptureMode")],
  ),
  local(
    "cuStreamBeginCaptureToGraph",
    {
      id: 0x1002,
      since: 12030,
      perThread: { suffix: "ptsz", since: 12030 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("hGraph", "CUgraph"),
      input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
      input("dependencyData", "const CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
      input("numDependencies", "size_t"),
      input("mode", "CUstreamCaptureMode"),
    ],
  ),
  local("cuStreamEndCapture", { id: 0x1003, since: 10000, perThread: { suffix: "ptsz", since: 10000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("phGraph", "CUgraph *"),
  ]),
  local("cuStreamGetCaptureInfo", { id: 0x1004, since: 10010, perThread: { suffix: "ptsz", since: 10010 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("captureStatus_out", "CUstreamCaptureStatus *", { nullable: true }),
    output("id_out", "cuuint64_t *", { nullable: true }),
  ]),
  local(
    "cuStreamGetCaptureInfo_v2",
    {
      id: 0x1005,
      since: 11030,
      perThread: { suffix: "ptsz", since: 11030 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      output("captureStatus_out", "CUstreamCaptureStatus *", { nullable: true }),
      output("id_out", "cuuint64_t *", { nullable: true }),
      output("graph_out", "CUgraph *", { nullable: true }),
      output("dependencies_out", "const CUgraphNode **", { nullable: true, length: "numDependencies_out" }),
      output("numDependencies_out", "size_t *", { nullable: true }),
    ],
  ),
  local(
    "cuStreamGetCaptureInfo_v3",
    {
      id: 0x1006,
      since: 12030,
      perThread: { suffix: "ptsz", since: 12030 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      output("captureStatus_out", "CUstreamCaptureStatus *", { nullable: true }),
      output("id_out", "cuuint64_t *", { nullable: true }),
      output("graph_out", "CUgraph *", { nullable: true }),
      output("dependencies_out", "const CUgraphNode **", { nullable: true, length: "numDependencies_out" }),
      output("edgeData_out", "const CUgraphEdgeData **", { nullable: true, length: "numDependencies_out" }),
      output("numDependencies_out", "size_t *", { nullable: true }),
    ],
  ),
  local("cuStreamIsCapturing", { id: 0x1007, since: 10000, perThread: { suffix: "ptsz", since: 10000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("captureStatus", "CUstreamCaptureStatus *"),
  ]),
  local(
    "cuStreamUpdateCaptureDependencies",
    {
      id: 0x1008,
      since: 11030,
      perThread: { suffix: "ptsz", since: 11030 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("dependencies", "CUgraphNode *", { length: "numDependencies" }),
      input("numDependencies", "size_t"),
      input("flags", "unsigned int"),
    ],
  ),
  local(
    "cuStreamUpdateCaptureDependencies_v2",
    {
      id: 0x1009,
      since: 12030,
      perThread: { suffix: "ptsz", since: 12030 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("dependencies", "CUgraphNode *", { length: "numDependencies" }),
      input("dependencyData", "const CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
      input("numDependencies", "size_t"),
      input("flags", "unsigned int"),
    ],
  ),
  local("cuThreadExchangeStreamCaptureMode", { id: 0x100a, since: 10010 }, [
    inout("mode", "CUstreamCaptureMode *"),
  ]),
]);

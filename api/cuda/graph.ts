import { inout, input, local, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const graph: Noun = noun("graph", [
  local("cuDeviceGetGraphMemAttribute", { id: 0x1600, since: 11040 }, [
    input("device", "CUdevice"),
    input("attr", "CUgraphMem_attribute"),
    output("value", "void *"),
  ]),
  local("cuDeviceGraphMemTrim", { id: 0x1601, since: 11040 }, [input("device", "CUdevice")]),
  local("cuDeviceSetGraphMemAttribute", { id: 0x1602, since: 11040 }, [
    input("device", "CUdevice"),
    input("attr", "CUgraphMem_attribute"),
    input("value", "void *"),
  ]),
  local("cuGraphAddDependencies", { id: 0x1605, since: 10000 }, [
    input("hGraph", "CUgraph"),
    input("from", "const CUgraphNode *", { length: "numDependencies" }),
    input("to", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
  ]),
  local("cuGraphAddDependencies_v2", { id: 0x1606, since: 12030 }, [
    input("hGraph", "CUgraph"),
    input("from", "const CUgraphNode *", { length: "numDependencies" }),
    input("to", "const CUgraphNode *", { length: "numDependencies" }),
    input("edgeData", "const CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
    input("numDependencies", "size_t"),
  ]),
  local("cuGraphClone", { id: 0x1618, since: 10000 }, [
    output("phGraphClone", "CUgraph *"),
    input("originalGraph", "CUgraph"),
  ]),
  unsupported("cuGraphConditionalHandleCreate", { id: 0x1619, since: 12030 }, [
    output("pHandle_out", "CUgraphConditionalHandle *"),
    input("hGraph", "CUgraph"),
    input("ctx", "CUcontext"),
    input("defaultLaunchValue", "unsigned int"),
    input("flags", "unsigned int"),
  ]),
  local("cuGraphCreate", { id: 0x161a, since: 10000 }, [
    output("phGraph", "CUgraph *"),
    input("flags", "unsigned int"),
  ]),
  local("cuGraphDebugDotPrint", { id: 0x161b, since: 11030 }, [
    input("hGraph", "CUgraph"),
    input("path", "const char *"),
    input("flags", "unsigned int"),
  ]),
  local("cuGraphDestroy", { id: 0x161c, since: 10000 }, [input("hGraph", "CUgraph")]),
  manual("cuGraphExecDestroy", { id: 0x1624, since: 10000, wire: { request: { exec: "GraphExec" } } }, [
    input("hGraphExec", "CUgraphExec"),
  ]),
  local("cuGraphExecGetFlags", { id: 0x1629, since: 12000 }, [
    input("hGraphExec", "CUgraphExec"),
    output("flags", "cuuint64_t *"),
  ]),
  manual("cuGraphExecUpdate", { id: 0x1630, since: 10020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hGraph", "CUgraph"),
    output("hErrorNode_out", "CUgraphNode *"),
    output("updateResult_out", "CUgraphExecUpdateResult *"),
  ]),
  manual("cuGraphExecUpdate_v2", { id: 0x1631, since: 12000 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hGraph", "CUgraph"),
    output("resultInfo", "CUgraphExecUpdateResultInfo *"),
  ]),
  local("cuGraphGetEdges", { id: 0x1636, since: 10000 }, [
    input("hGraph", "CUgraph"),
    output("from", "CUgraphNode *", { length: "numEdges" }),
    output("to", "CUgraphNode *", { length: "numEdges" }),
    inout("numEdges", "size_t *"),
  ]),
  local("cuGraphGetEdges_v2", { id: 0x1637, since: 12030 }, [
    input("hGraph", "CUgraph"),
    output("from", "CUgraphNode *", { length: "numEdges" }),
    output("to", "CUgraphNode *", { length: "numEdges" }),
    output("edgeData", "CUgraphEdgeData *", { nullable: true, length: "numEdges" }),
    inout("numEdges", "size_t *"),
  ]),
  manual("cuGraphInstantiate", { id: 0x163c, since: 10000 }, [
    output("phGraphExec", "CUgraphExec *"),
    input("hGraph", "CUgraph"),
    output("phErrorNode", "CUgraphNode *", { nullable: true }),
    output("logBuffer", "char *", { nullable: true, length: "bufferSize" }),
    input("bufferSize", "size_t"),
  ]),
  manual("cuGraphInstantiate_v2", { id: 0x163d, since: 11000 }, [
    output("phGraphExec", "CUgraphExec *"),
    input("hGraph", "CUgraph"),
    output("phErrorNode", "CUgraphNode *", { nullable: true }),
    output("logBuffer", "char *", { nullable: true, length: "bufferSize" }),
    input("bufferSize", "size_t"),
  ]),
  manual(
    "cuGraphInstantiateWithFlags",
    { id: 0x163e, since: 11040, wire: { request: { exec: "new GraphExec", graph: "u64", flags: "u64" } } },
    [
      output("phGraphExec", "CUgraphExec *"),
      input("hGraph", "CUgraph"),
      input("flags", "unsigned long long"),
    ],
  ),
  manual(
    "cuGraphInstantiateWithParams",
    {
      id: 0x163f,
      since: 12000,
      perThread: { suffix: "ptsz", since: 12000 },
    },
    [
      output("phGraphExec", "CUgraphExec *"),
      input("hGraph", "CUgraph"),
      inout("instantiateParams", "CUDA_GRAPH_INSTANTIATE_PARAMS *"),
    ],
  ),
  manual(
    "cuGraphLaunch",
    {
      id: 0x1647,
      since: 10000,
      perThread: { suffix: "ptsz", since: 10000 },
      wire: { request: { exec: "GraphExec", launch: "u64", stream: "Stream", events: "list GraphEvent" } },
    },
    [input("hGraphExec", "CUgraphExec"), input("hStream", "CUstream", { nullable: true })],
  ),
  local("cuGraphReleaseUserObject", { id: 0x1657, since: 11030 }, [
    input("graph", "CUgraph"),
    input("object", "CUuserObject"),
    input("count", "unsigned int"),
  ]),
  local("cuGraphRemoveDependencies", { id: 0x1658, since: 10000 }, [
    input("hGraph", "CUgraph"),
    input("from", "const CUgraphNode *", { length: "numDependencies" }),
    input("to", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
  ]),
  local("cuGraphRemoveDependencies_v2", { id: 0x1659, since: 12030 }, [
    input("hGraph", "CUgraph"),
    input("from", "const CUgraphNode *", { length: "numDependencies" }),
    input("to", "const CUgraphNode *", { length: "numDependencies" }),
    input("edgeData", "const CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
    input("numDependencies", "size_t"),
  ]),
  local("cuGraphRetainUserObject", { id: 0x165a, since: 11030 }, [
    input("graph", "CUgraph"),
    input("object", "CUuserObject"),
    input("count", "unsigned int"),
    input("flags", "unsigned int"),
  ]),
  manual(
    "cuGraphUpload",
    {
      id: 0x165b,
      since: 11010,
      perThread: { suffix: "ptsz", since: 11010 },
      wire: { request: { exec: "GraphExec", stream: "Stream" } },
    },
    [input("hGraphExec", "CUgraphExec"), input("hStream", "CUstream", { nullable: true })],
  ),
  local("cuUserObjectCreate", { id: 0x165c, since: 11030 }, [
    output("object_out", "CUuserObject *"),
    input("ptr", "void *"),
    input("destroy", "CUhostFn"),
    input("initialRefcount", "unsigned int"),
    input("flags", "unsigned int"),
  ]),
  local("cuUserObjectRelease", { id: 0x165d, since: 11030 }, [
    input("object", "CUuserObject"),
    input("count", "unsigned int"),
  ]),
  local("cuUserObjectRetain", { id: 0x165e, since: 11030 }, [
    input("object", "CUuserObject"),
    input("count", "unsigned int"),
  ]),
]);

import { inout, input, local, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const graphNode: Noun = noun("graph-node", [
  unsupported("cuGraphAddBatchMemOpNode", { id: 0x1603, since: 11070 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_BATCH_MEM_OP_NODE_PARAMS *"),
  ]),
  local("cuGraphAddChildGraphNode", { id: 0x1604, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("childGraph", "CUgraph"),
  ]),
  local("cuGraphAddEmptyNode", { id: 0x1607, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
  ]),
  local("cuGraphAddEventRecordNode", { id: 0x1608, since: 11010 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("event", "CUevent"),
  ]),
  local("cuGraphAddEventWaitNode", { id: 0x1609, since: 11010 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("event", "CUevent"),
  ]),
  unsupported("cuGraphAddExternalSemaphoresSignalNode", { id: 0x160a, since: 11020 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphAddExternalSemaphoresWaitNode", { id: 0x160b, since: 11020 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_EXT_SEM_WAIT_NODE_PARAMS *"),
  ]),
  local("cuGraphAddHostNode", { id: 0x160c, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_HOST_NODE_PARAMS *"),
  ]),
  local("cuGraphAddKernelNode", { id: 0x160d, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS_v1 *"),
  ]),
  local("cuGraphAddKernelNode_v2", { id: 0x160e, since: 12000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS *"),
  ]),
  manual("cuGraphAddMemAllocNode", { id: 0x160f, since: 11040 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    inout("nodeParams", "CUDA_MEM_ALLOC_NODE_PARAMS *"),
  ]),
  local("cuGraphAddMemFreeNode", { id: 0x1610, since: 11040 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("dptr", "CUdeviceptr"),
  ]),
  local("cuGraphAddMemcpyNode", { id: 0x1611, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("copyParams", "const CUDA_MEMCPY3D *"),
    input("ctx", "CUcontext"),
  ]),
  local("cuGraphAddMemsetNode", { id: 0x1612, since: 10000 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    input("memsetParams", "const CUDA_MEMSET_NODE_PARAMS *"),
    input("ctx", "CUcontext"),
  ]),
  manual("cuGraphAddNode", { id: 0x1613, since: 12020 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("numDependencies", "size_t"),
    inout("nodeParams", "CUgraphNodeParams *"),
  ]),
  manual("cuGraphAddNode_v2", { id: 0x1614, since: 12030 }, [
    output("phGraphNode", "CUgraphNode *"),
    input("hGraph", "CUgraph"),
    input("dependencies", "const CUgraphNode *", { length: "numDependencies" }),
    input("dependencyData", "const CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
    input("numDependencies", "size_t"),
    inout("nodeParams", "CUgraphNodeParams *"),
  ]),
  unsupported("cuGraphBatchMemOpNodeGetParams", { id: 0x1615, since: 11070 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams_out", "CUDA_BATCH_MEM_OP_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphBatchMemOpNodeSetParams", { id: 0x1616, since: 11070 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_BATCH_MEM_OP_NODE_PARAMS *"),
  ]),
  local("cuGraphChildGraphNodeGetGraph", { id: 0x1617, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("phGraph", "CUgraph *"),
  ]),
  local("cuGraphDestroyNode", { id: 0x161d, since: 10000 }, [input("hNode", "CUgraphNode")]),
  local("cuGraphEventRecordNodeGetEvent", { id: 0x161e, since: 11010 }, [
    input("hNode", "CUgraphNode"),
    output("event_out", "CUevent *"),
  ]),
  local("cuGraphEventRecordNodeSetEvent", { id: 0x161f, since: 11010 }, [
    input("hNode", "CUgraphNode"),
    input("event", "CUevent"),
  ]),
  local("cuGraphEventWaitNodeGetEvent", { id: 0x1620, since: 11010 }, [
    input("hNode", "CUgraphNode"),
    output("event_out", "CUevent *"),
  ]),
  local("cuGraphEventWaitNodeSetEvent", { id: 0x1621, since: 11010 }, [
    input("hNode", "CUgraphNode"),
    input("event", "CUevent"),
  ]),
  unsupported("cuGraphExecBatchMemOpNodeSetParams", { id: 0x1622, since: 11070 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_BATCH_MEM_OP_NODE_PARAMS *"),
  ]),
  manual("cuGraphExecChildGraphNodeSetParams", { id: 0x1623, since: 11010 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("childGraph", "CUgraph"),
  ]),
  manual("cuGraphExecEventRecordNodeSetEvent", { id: 0x1625, since: 11010 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("event", "CUevent"),
  ]),
  manual("cuGraphExecEventWaitNodeSetEvent", { id: 0x1626, since: 11010 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("event", "CUevent"),
  ]),
  unsupported("cuGraphExecExternalSemaphoresSignalNodeSetParams", { id: 0x1627, since: 11020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphExecExternalSemaphoresWaitNodeSetParams", { id: 0x1628, since: 11020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_EXT_SEM_WAIT_NODE_PARAMS *"),
  ]),
  manual("cuGraphExecHostNodeSetParams", { id: 0x162a, since: 10020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_HOST_NODE_PARAMS *"),
  ]),
  manual("cuGraphExecKernelNodeSetParams", { id: 0x162b, since: 10010 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS_v1 *"),
  ]),
  manual("cuGraphExecKernelNodeSetParams_v2", { id: 0x162c, since: 12000 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS *"),
  ]),
  manual("cuGraphExecMemcpyNodeSetParams", { id: 0x162d, since: 10020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("copyParams", "const CUDA_MEMCPY3D *"),
    input("ctx", "CUcontext"),
  ]),
  manual("cuGraphExecMemsetNodeSetParams", { id: 0x162e, since: 10020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("memsetParams", "const CUDA_MEMSET_NODE_PARAMS *"),
    input("ctx", "CUcontext"),
  ]),
  manual("cuGraphExecNodeSetParams", { id: 0x162f, since: 12020 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    input("nodeParams", "CUgraphNodeParams *"),
  ]),
  unsupported("cuGraphExternalSemaphoresSignalNodeGetParams", { id: 0x1632, since: 11020 }, [
    input("hNode", "CUgraphNode"),
    output("params_out", "CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphExternalSemaphoresSignalNodeSetParams", { id: 0x1633, since: 11020 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphExternalSemaphoresWaitNodeGetParams", { id: 0x1634, since: 11020 }, [
    input("hNode", "CUgraphNode"),
    output("params_out", "CUDA_EXT_SEM_WAIT_NODE_PARAMS *"),
  ]),
  unsupported("cuGraphExternalSemaphoresWaitNodeSetParams", { id: 0x1635, since: 11020 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_EXT_SEM_WAIT_NODE_PARAMS *"),
  ]),
  local("cuGraphGetNodes", { id: 0x1638, since: 10000 }, [
    input("hGraph", "CUgraph"),
    output("nodes", "CUgraphNode *", { length: "numNodes" }),
    inout("numNodes", "size_t *"),
  ]),
  local("cuGraphGetRootNodes", { id: 0x1639, since: 10000 }, [
    input("hGraph", "CUgraph"),
    output("rootNodes", "CUgraphNode *", { length: "numRootNodes" }),
    inout("numRootNodes", "size_t *"),
  ]),
  local("cuGraphHostNodeGetParams", { id: 0x163a, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams", "CUDA_HOST_NODE_PARAMS *"),
  ]),
  local("cuGraphHostNodeSetParams", { id: 0x163b, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_HOST_NODE_PARAMS *"),
  ]),
  local("cuGraphKernelNodeCopyAttributes", { id: 0x1640, since: 11000 }, [
    input("dst", "CUgraphNode"),
    input("src", "CUgraphNode"),
  ]),
  local("cuGraphKernelNodeGetAttribute", { id: 0x1641, since: 11000 }, [
    input("hNode", "CUgraphNode"),
    input("attr", "CUkernelNodeAttrID"),
    output("value_out", "CUkernelNodeAttrValue *"),
  ]),
  local("cuGraphKernelNodeGetParams", { id: 0x1642, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams", "CUDA_KERNEL_NODE_PARAMS_v1 *"),
  ]),
  local("cuGraphKernelNodeGetParams_v2", { id: 0x1643, since: 12000 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams", "CUDA_KERNEL_NODE_PARAMS *"),
  ]),
  local("cuGraphKernelNodeSetAttribute", { id: 0x1644, since: 11000 }, [
    input("hNode", "CUgraphNode"),
    input("attr", "CUkernelNodeAttrID"),
    input("value", "const CUkernelNodeAttrValue *"),
  ]),
  local("cuGraphKernelNodeSetParams", { id: 0x1645, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS_v1 *"),
  ]),
  local("cuGraphKernelNodeSetParams_v2", { id: 0x1646, since: 12000 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_KERNEL_NODE_PARAMS *"),
  ]),
  local("cuGraphMemAllocNodeGetParams", { id: 0x1648, since: 11040 }, [
    input("hNode", "CUgraphNode"),
    output("params_out", "CUDA_MEM_ALLOC_NODE_PARAMS *"),
  ]),
  local("cuGraphMemFreeNodeGetParams", { id: 0x1649, since: 11040 }, [
    input("hNode", "CUgraphNode"),
    output("dptr_out", "CUdeviceptr *"),
  ]),
  local("cuGraphMemcpyNodeGetParams", { id: 0x164a, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams", "CUDA_MEMCPY3D *"),
  ]),
  local("cuGraphMemcpyNodeSetParams", { id: 0x164b, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_MEMCPY3D *"),
  ]),
  local("cuGraphMemsetNodeGetParams", { id: 0x164c, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("nodeParams", "CUDA_MEMSET_NODE_PARAMS *"),
  ]),
  local("cuGraphMemsetNodeSetParams", { id: 0x164d, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "const CUDA_MEMSET_NODE_PARAMS *"),
  ]),
  local("cuGraphNodeFindInClone", { id: 0x164e, since: 10000 }, [
    output("phNode", "CUgraphNode *"),
    input("hOriginalNode", "CUgraphNode"),
    input("hClonedGraph", "CUgraph"),
  ]),
  local("cuGraphNodeGetDependencies", { id: 0x164f, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("dependencies", "CUgraphNode *", { length: "numDependencies" }),
    inout("numDependencies", "size_t *"),
  ]),
  local("cuGraphNodeGetDependencies_v2", { id: 0x1650, since: 12030 }, [
    input("hNode", "CUgraphNode"),
    output("dependencies", "CUgraphNode *", { length: "numDependencies" }),
    output("edgeData", "CUgraphEdgeData *", { nullable: true, length: "numDependencies" }),
    inout("numDependencies", "size_t *"),
  ]),
  local("cuGraphNodeGetDependentNodes", { id: 0x1651, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("dependentNodes", "CUgraphNode *", { length: "numDependentNodes" }),
    inout("numDependentNodes", "size_t *"),
  ]),
  local("cuGraphNodeGetDependentNodes_v2", { id: 0x1652, since: 12030 }, [
    input("hNode", "CUgraphNode"),
    output("dependentNodes", "CUgraphNode *", { length: "numDependentNodes" }),
    output("edgeData", "CUgraphEdgeData *", { nullable: true, length: "numDependentNodes" }),
    inout("numDependentNodes", "size_t *"),
  ]),
  local("cuGraphNodeGetEnabled", { id: 0x1653, since: 11060 }, [
    input("hGraphExec", "CUgraphExec"),
    input("hNode", "CUgraphNode"),
    output("isEnabled", "unsigned int *"),
  ]),
  local("cuGraphNodeGetType", { id: 0x1654, since: 10000 }, [
    input("hNode", "CUgraphNode"),
    output("type", "CUgraphNodeType *"),
  ]),
  manual(
    "cuGraphNodeSetEnabled",
    { id: 0x1655, since: 11060, wire: { request: { exec: "GraphExec", node: "u32", enabled: "u32" } } },
    [input("hGraphExec", "CUgraphExec"), input("hNode", "CUgraphNode"), input("isEnabled", "unsigned int")],
  ),
  local("cuGraphNodeSetParams", { id: 0x1656, since: 12020 }, [
    input("hNode", "CUgraphNode"),
    input("nodeParams", "CUgraphNodeParams *"),
  ]),
]);

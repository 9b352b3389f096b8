/** Every C type that appears in a signature and is neither an enumeration of enums.ts nor a structure of structs.ts. */

/** C spelling to Rust. */
export const scalars: Readonly<Record<string, string>> = {
  char: "c_char",
  cuuint32_t: "u32",
  cuuint64_t: "u64",
  float: "f32",
  int: "i32",
  "long long": "i64",
  size_t: "usize",
  "unsigned char": "u8",
  "unsigned int": "u32",
  "unsigned long long": "u64",
  "unsigned short": "u16",
  void: "c_void",
};

/** Names for plain numbers, kept as names in Rust. */
export const aliases: Readonly<Record<string, string>> = {
  CUdevice: "i32",
  CUdeviceptr: "u64",
  CUdeviceptr_v1: "u32",
  CUgraphConditionalHandle: "u64",
  CUlogIterator: "u32",
  CUmemGenericAllocationHandle: "u64",
  CUsurfObject: "u64",
  CUtexObject: "u64",
  CUkernelNodeAttrID: "CUlaunchAttributeID",
  CUkernelNodeAttrValue: "CUlaunchAttributeValue",
  CUstreamAttrID: "CUlaunchAttributeID",
  CUstreamAttrValue: "CUlaunchAttributeValue",
};

/** Opaque pointers; the value is the kind of handle on the wire, where we remote one. */
export const handles: Readonly<Record<string, string | null>> = {
  CUarray: "Array",
  CUasyncCallbackHandle: null,
  CUcontext: "Context",
  CUdevResourceDesc: null,
  CUevent: "Event",
  CUexternalMemory: null,
  CUexternalSemaphore: null,
  CUfunction: "Function",
  CUgraph: "Graph",
  CUgraphExec: "GraphExec",
  CUgraphNode: "GraphNode",
  CUgraphicsResource: null,
  CUgreenCtx: null,
  CUkernel: "Kernel",
  CUlibrary: "Library",
  CUlinkState: null,
  CUlogsCallbackHandle: null,
  CUmemoryPool: "MemoryPool",
  CUmipmappedArray: null,
  CUmodule: "Module",
  CUstream: "Stream",
  CUsurfref: null,
  CUtexref: null,
  CUuserObject: null,
};

/** Function pointers. */
export const callbacks: Readonly<Record<string, string>> = {
  CUasyncCallback: "(info: *mut c_void, user_data: *mut c_void, callback: CUasyncCallbackHandle)",
  CUhostFn: "(user_data: *mut c_void)",
  CUlogsCallback: "(data: *mut c_void, level: u32, message: *mut c_char, length: usize)",
  CUoccupancyB2DSize: "(block_size: i32) -> usize",
  CUstreamCallback: "(stream: CUstream, status: CUresult, user_data: *mut c_void)",
};

/** Enumerations that only unsupported calls take: no values yet. */
export const plainEnums: readonly string[] = [
  "CUaddress_mode",
  "CUatomicOperation",
  "CUcoredumpSettings",
  "CUdevResourceType",
  "CUfilter_mode",
  "CUflushGPUDirectRDMAWritesScope",
  "CUflushGPUDirectRDMAWritesTarget",
  "CUgraphMem_attribute",
  "CUmemAccess_flags",
  "CUmemAllocationGranularity_flags",
  "CUmemRangeHandleType",
  "CUmem_range_attribute",
  "CUmulticastGranularity_flags",
  "CUoutput_mode",
  "CUprocessState",
  "CUtensorMapDataType",
  "CUtensorMapFloatOOBfill",
  "CUtensorMapIm2ColWideMode",
  "CUtensorMapInterleave",
  "CUtensorMapL2promotion",
  "CUtensorMapSwizzle",
];

/** Structures that only unsupported calls point to. */
export const opaque: readonly string[] = [
  "CUDA_ARRAY3D_DESCRIPTOR_v1",
  "CUDA_ARRAY_DESCRIPTOR_v1",
  "CUDA_ARRAY_MEMORY_REQUIREMENTS",
  "CUDA_ARRAY_SPARSE_PROPERTIES",
  "CUDA_BATCH_MEM_OP_NODE_PARAMS",
  "CUDA_EXTERNAL_MEMORY_BUFFER_DESC",
  "CUDA_EXTERNAL_MEMORY_HANDLE_DESC",
  "CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC",
  "CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC",
  "CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS",
  "CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS",
  "CUDA_EXT_SEM_SIGNAL_NODE_PARAMS",
  "CUDA_EXT_SEM_WAIT_NODE_PARAMS",
  "CUDA_MEMCPY2D_v1",
  "CUDA_MEMCPY3D_BATCH_OP",
  "CUDA_MEMCPY3D_v1",
  "CUDA_RESOURCE_DESC",
  "CUDA_RESOURCE_VIEW_DESC",
  "CUDA_TEXTURE_DESC",
  "CUarrayMapInfo",
  "CUcheckpointCheckpointArgs",
  "CUcheckpointLockArgs",
  "CUcheckpointRestoreArgs",
  "CUcheckpointUnlockArgs",
  "CUdevResource",
  "CUmemDecompressParams",
  "CUmemcpyAttributes",
  "CUmulticastObjectProp",
  "CUstreamBatchMemOpParams",
  "CUtensorMap",
];

/** Numbers that are macros in the vendor's header. */
export const constants: readonly (readonly [name: string, type: string, value: string])[] = [
  ["CU_STREAM_LEGACY", "CUstream", "CUstream(1)"],
  ["CU_STREAM_PER_THREAD", "CUstream", "CUstream(2)"],
  ["CU_MEMHOSTALLOC_PORTABLE", "u32", "1"],
  ["CU_MEMHOSTALLOC_DEVICEMAP", "u32", "2"],
  ["CU_MEMHOSTALLOC_WRITECOMBINED", "u32", "4"],
  ["CU_MEMHOSTREGISTER_PORTABLE", "u32", "1"],
  ["CU_MEMHOSTREGISTER_DEVICEMAP", "u32", "2"],
  ["CU_MEMHOSTREGISTER_IOMEMORY", "u32", "4"],
  ["CU_MEMHOSTREGISTER_READ_ONLY", "u32", "8"],
  ["CU_LAUNCH_PARAM_END", "usize", "0"],
  ["CU_LAUNCH_PARAM_BUFFER_POINTER", "usize", "1"],
  ["CU_LAUNCH_PARAM_BUFFER_SIZE", "usize", "2"],
  ["CU_DEVICE_CPU", "CUdevice", "-1"],
  ["CU_DEVICE_INVALID", "CUdevice", "-2"],
];

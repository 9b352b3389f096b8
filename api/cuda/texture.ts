import { creates, input, noun, output, unsupported, waiting, type Noun } from "../model.ts";

export const texture: Noun = noun("texture", [
  unsupported("cuArray3DCreate", { id: 0x1500, since: 2000 }, [
    output("pHandle", "CUarray *"),
    input("pAllocateArray", "const CUDA_ARRAY3D_DESCRIPTOR_v1 *"),
  ]),
  unsupported("cuArray3DCreate_v2", { id: 0x1501, since: 3020 }, [
    creates("pHandle", "CUarray *"),
    input("pAllocateArray", "const CUDA_ARRAY3D_DESCRIPTOR *"),
  ]),
  unsupported("cuArray3DGetDescriptor", { id: 0x1502, since: 2000 }, [
    output("pArrayDescriptor", "CUDA_ARRAY3D_DESCRIPTOR_v1 *"),
    input("hArray", "CUarray"),
  ]),
  unsupported("cuArray3DGetDescriptor_v2", { id: 0x1503, since: 3020 }, [
    output("pArrayDescriptor", "CUDA_ARRAY3D_DESCRIPTOR *"),
    input("hArray", "CUarray"),
  ]),
  unsupported("cuArrayCreate", { id: 0x1504, since: 2000 }, [
    output("pHandle", "CUarray *"),
    input("pAllocateArray", "const CUDA_ARRAY_DESCRIPTOR_v1 *"),
  ]),
  unsupported("cuArrayCreate_v2", { id: 0x1505, since: 3020 }, [
    creates("pHandle", "CUarray *"),
    input("pAllocateArray", "const CUDA_ARRAY_DESCRIPTOR *"),
  ]),
  unsupported("cuArrayDestroy", { id: 0x1506, since: 2000 }, [input("hArray", "CUarray")]),
  unsupported("cuArrayGetDescriptor", { id: 0x1507, since: 2000 }, [
    output("pArrayDescriptor", "CUDA_ARRAY_DESCRIPTOR_v1 *"),
    input("hArray", "CUarray"),
  ]),
  unsupported("cuArrayGetDescriptor_v2", { id: 0x1508, since: 3020 }, [
    output("pArrayDescriptor", "CUDA_ARRAY_DESCRIPTOR *"),
    input("hArray", "CUarray"),
  ]),
  unsupported("cuArrayGetMemoryRequirements", { id: 0x1509, since: 11060 }, [
    output("memoryRequirements", "CUDA_ARRAY_MEMORY_REQUIREMENTS *"),
    input("array", "CUarray"),
    input("device", "CUdevice"),
  ]),
  unsupported("cuArrayGetPlane", { id: 0x150a, since: 11020 }, [
    output("pPlaneArray", "CUarray *"),
    input("hArray", "CUarray"),
    input("planeIdx", "unsigned int"),
  ]),
  unsupported("cuArrayGetSparseProperties", { id: 0x150b, since: 11010 }, [
    output("sparseProperties", "CUDA_ARRAY_SPARSE_PROPERTIES *"),
    input("array", "CUarray"),
  ]),
  waiting("cuDeviceGetTexture1DLinearMaxWidth", { id: 0x150c, since: 11010, remembered: true }, [
    output("maxWidthInElements", "size_t *"),
    input("format", "CUarray_format"),
    input("numChannels", "unsigned int"),
    input("dev", "CUdevice"),
  ]),
  unsupported(
    "cuMemMapArrayAsync",
    { id: 0x150d, since: 11010, perThread: { suffix: "ptsz", since: 11010 } },
    [
      input("mapInfoList", "CUarrayMapInfo *", { length: "count" }),
      input("count", "unsigned int"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemcpyAtoA", { id: 0x150e, since: 2000 }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "unsigned int"),
    input("srcArray", "CUarray"),
    input("srcOffset", "unsigned int"),
    input("ByteCount", "unsigned int"),
  ]),
  unsupported("cuMemcpyAtoA_v2", { id: 0x150f, since: 3020, perThread: { suffix: "ptds", since: 7000 } }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "size_t"),
    input("srcArray", "CUarray"),
    input("srcOffset", "size_t"),
    input("ByteCount", "size_t"),
  ]),
  unsupported("cuMemcpyAtoD", { id: 0x1510, since: 2000 }, [
    input("dstDevice", "CUdeviceptr_v1"),
    input("srcArray", "CUarray"),
    input("srcOffset", "unsigned int"),
    input("ByteCount", "unsigned int"),
  ]),
  unsupported("cuMemcpyAtoD_v2", { id: 0x1511, since: 3020, perThread: { suffix: "ptds", since: 7000 } }, [
    input("dstDevice", "CUdeviceptr"),
    input("srcArray", "CUarray"),
    input("srcOffset", "size_t"),
    input("ByteCount", "size_t"),
  ]),
  unsupported("cuMemcpyAtoH", { id: 0x1512, since: 2000 }, [
    output("dstHost", "void *", { length: "ByteCount" }),
    input("srcArray", "CUarray"),
    input("srcOffset", "unsigned int"),
    input("ByteCount", "unsigned int"),
  ]),
  unsupported("cuMemcpyAtoH_v2", { id: 0x1513, since: 3020, perThread: { suffix: "ptds", since: 7000 } }, [
    output("dstHost", "void *", { length: "ByteCount" }),
    input("srcArray", "CUarray"),
    input("srcOffset", "size_t"),
    input("ByteCount", "size_t"),
  ]),
  unsupported("cuMemcpyAtoHAsync", { id: 0x1514, since: 2000 }, [
    output("dstHost", "void *", { length: "ByteCount" }),
    input("srcArray", "CUarray"),
    input("srcOffset", "unsigned int"),
    input("ByteCount", "unsigned int"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  unsupported(
    "cuMemcpyAtoHAsync_v2",
    { id: 0x1515, since: 3020, perThread: { suffix: "ptsz", since: 7000 } },
    [
      output("dstHost", "void *", { length: "ByteCount" }),
      input("srcArray", "CUarray"),
      input("srcOffset", "size_t"),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMemcpyDtoA", { id: 0x1516, since: 2000 }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "unsigned int"),
    input("srcDevice", "CUdeviceptr_v1"),
    input("ByteCount", "unsigned int"),
  ]),
  unsupported("cuMemcpyDtoA_v2", { id: 0x1517, since: 3020, perThread: { suffix: "ptds", since: 7000 } }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "size_t"),
    input("srcDevice", "CUdeviceptr"),
    input("ByteCount", "size_t"),
  ]),
  unsupported("cuMemcpyHtoA", { id: 0x1518, since: 2000 }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "unsigned int"),
    input("srcHost", "const void *", { length: "ByteCount" }),
    input("ByteCount", "unsigned int"),
  ]),
  unsupported("cuMemcpyHtoA_v2", { id: 0x1519, since: 3020, perThread: { suffix: "ptds", since: 7000 } }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "size_t"),
    input("srcHost", "const void *", { length: "ByteCount" }),
    input("ByteCount", "size_t"),
  ]),
  unsupported("cuMemcpyHtoAAsync", { id: 0x151a, since: 2000 }, [
    input("dstArray", "CUarray"),
    input("dstOffset", "unsigned int"),
    input("srcHost", "const void *", { length: "ByteCount" }),
    input("ByteCount", "unsigned int"),
    input("hStream", "CUstream", { nullable: true }),
  ]),
  unsupported(
    "cuMemcpyHtoAAsync_v2",
    { id: 0x151b, since: 3020, perThread: { suffix: "ptsz", since: 7000 } },
    [
      input("dstArray", "CUarray"),
      input("dstOffset", "size_t"),
      input("srcHost", "const void *", { length: "ByteCount" }),
      input("ByteCount", "size_t"),
      input("hStream", "CUstream", { nullable: true }),
    ],
  ),
  unsupported("cuMipmappedArrayCreate", { id: 0x151c, since: 5000 }, [
    output("pHandle", "CUmipmappedArray *"),
    input("pMipmappedArrayDesc", "const CUDA_ARRAY3D_DESCRIPTOR *"),
    input("numMipmapLevels", "unsigned int"),
  ]),
  unsupported("cuMipmappedArrayDestroy", { id: 0x151d, since: 5000 }, [
    input("hMipmappedArray", "CUmipmappedArray"),
  ]),
  unsupported("cuMipmappedArrayGetLevel", { id: 0x151e, since: 5000 }, [
    output("pLevelArray", "CUarray *"),
    input("hMipmappedArray", "CUmipmappedArray"),
    input("level", "unsigned int"),
  ]),
  unsupported("cuMipmappedArrayGetMemoryRequirements", { id: 0x151f, since: 11060 }, [
    output("memoryRequirements", "CUDA_ARRAY_MEMORY_REQUIREMENTS *"),
    input("mipmap", "CUmipmappedArray"),
    input("device", "CUdevice"),
  ]),
  unsupported("cuMipmappedArrayGetSparseProperties", { id: 0x1520, since: 11010 }, [
    output("sparseProperties", "CUDA_ARRAY_SPARSE_PROPERTIES *"),
    input("mipmap", "CUmipmappedArray"),
  ]),
  unsupported("cuModuleGetSurfRef", { id: 0x1521, since: 3000 }, [
    output("pSurfRef", "CUsurfref *"),
    input("hmod", "CUmodule"),
    input("name", "const char *"),
  ]),
  unsupported("cuModuleGetTexRef", { id: 0x1522, since: 2000 }, [
    output("pTexRef", "CUtexref *"),
    input("hmod", "CUmodule"),
    input("name", "const char *"),
  ]),
  unsupported("cuParamSetTexRef", { id: 0x1523, since: 2000 }, [
    input("hfunc", "CUfunction"),
    input("texunit", "int"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuSurfObjectCreate", { id: 0x1524, since: 5000 }, [
    output("pSurfObject", "CUsurfObject *"),
    input("pResDesc", "const CUDA_RESOURCE_DESC *"),
  ]),
  unsupported("cuSurfObjectDestroy", { id: 0x1525, since: 5000 }, [input("surfObject", "CUsurfObject")]),
  unsupported("cuSurfObjectGetResourceDesc", { id: 0x1526, since: 5000 }, [
    output("pResDesc", "CUDA_RESOURCE_DESC *"),
    input("surfObject", "CUsurfObject"),
  ]),
  unsupported("cuSurfRefGetArray", { id: 0x1527, since: 3000 }, [
    output("phArray", "CUarray *"),
    input("hSurfRef", "CUsurfref"),
  ]),
  unsupported("cuSurfRefSetArray", { id: 0x1528, since: 3000 }, [
    input("hSurfRef", "CUsurfref"),
    input("hArray", "CUarray"),
    input("Flags", "unsigned int"),
  ]),
  unsupported("cuTexObjectCreate", { id: 0x1529, since: 5000 }, [
    output("pTexObject", "CUtexObject *"),
    input("pResDesc", "const CUDA_RESOURCE_DESC *"),
    input("pTexDesc", "const CUDA_TEXTURE_DESC *"),
    input("pResViewDesc", "const CUDA_RESOURCE_VIEW_DESC *"),
  ]),
  unsupported("cuTexObjectDestroy", { id: 0x152a, since: 5000 }, [input("texObject", "CUtexObject")]),
  unsupported("cuTexObjectGetResourceDesc", { id: 0x152b, since: 5000 }, [
    output("pResDesc", "CUDA_RESOURCE_DESC *"),
    input("texObject", "CUtexObject"),
  ]),
  unsupported("cuTexObjectGetResourceViewDesc", { id: 0x152c, since: 5000 }, [
    output("pResViewDesc", "CUDA_RESOURCE_VIEW_DESC *"),
    input("texObject", "CUtexObject"),
  ]),
  unsupported("cuTexObjectGetTextureDesc", { id: 0x152d, since: 5000 }, [
    output("pTexDesc", "CUDA_TEXTURE_DESC *"),
    input("texObject", "CUtexObject"),
  ]),
  unsupported("cuTexRefCreate", { id: 0x152e, since: 2000 }, [output("pTexRef", "CUtexref *")]),
  unsupported("cuTexRefDestroy", { id: 0x152f, since: 2000 }, [input("hTexRef", "CUtexref")]),
  unsupported("cuTexRefGetAddress", { id: 0x1530, since: 2000 }, [
    output("pdptr", "CUdeviceptr_v1 *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetAddress_v2", { id: 0x1531, since: 3020 }, [
    output("pdptr", "CUdeviceptr *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetAddressMode", { id: 0x1532, since: 2000 }, [
    output("pam", "CUaddress_mode *"),
    input("hTexRef", "CUtexref"),
    input("dim", "int"),
  ]),
  unsupported("cuTexRefGetArray", { id: 0x1533, since: 2000 }, [
    output("phArray", "CUarray *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetBorderColor", { id: 0x1534, since: 8000 }, [
    output("pBorderColor", "float *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetFilterMode", { id: 0x1535, since: 2000 }, [
    output("pfm", "CUfilter_mode *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetFlags", { id: 0x1536, since: 2000 }, [
    output("pFlags", "unsigned int *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetFormat", { id: 0x1537, since: 2000 }, [
    output("pFormat", "CUarray_format *"),
    output("pNumChannels", "int *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetMaxAnisotropy", { id: 0x1538, since: 5000 }, [
    output("pmaxAniso", "int *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetMipmapFilterMode", { id: 0x1539, since: 5000 }, [
    output("pfm", "CUfilter_mode *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetMipmapLevelBias", { id: 0x153a, since: 5000 }, [
    output("pbias", "float *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetMipmapLevelClamp", { id: 0x153b, since: 5000 }, [
    output("pminMipmapLevelClamp", "float *"),
    output("pmaxMipmapLevelClamp", "float *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefGetMipmappedArray", { id: 0x153c, since: 5000 }, [
    output("phMipmappedArray", "CUmipmappedArray *"),
    input("hTexRef", "CUtexref"),
  ]),
  unsupported("cuTexRefSetAddress", { id: 0x153d, since: 2000 }, [
    output("ByteOffset", "unsigned int *"),
    input("hTexRef", "CUtexref"),
    input("dptr", "CUdeviceptr_v1"),
    input("bytes", "unsigned int"),
  ]),
  unsupported("cuTexRefSetAddress_v2", { id: 0x153e, since: 3020 }, [
    output("ByteOffset", "size_t *"),
    input("hTexRef", "CUtexref"),
    input("dptr", "CUdeviceptr"),
    input("bytes", "size_t"),
  ]),
  unsupported("cuTexRefSetAddress2D", { id: 0x153f, since: 2020 }, [
    input("hTexRef", "CUtexref"),
    input("desc", "const CUDA_ARRAY_DESCRIPTOR_v1 *"),
    input("dptr", "CUdeviceptr_v1"),
    input("Pitch", "unsigned int"),
  ]),
  unsupported("cuTexRefSetAddress2D_v2", { id: 0x1540, since: 3020 }, [
    input("hTexRef", "CUtexref"),
    input("desc", "const CUDA_ARRAY_DESCRIPTOR *"),
    input("dptr", "CUdeviceptr"),
    input("Pitch", "size_t"),
  ]),
  unsupported("cuTexRefSetAddress2D_v3", { id: 0x1541, since: 4010 }, [
    input("hTexRef", "CUtexref"),
    input("desc", "const CUDA_ARRAY_DESCRIPTOR *"),
    input("dptr", "CUdeviceptr"),
    input("Pitch", "size_t"),
  ]),
  unsupported("cuTexRefSetAddressMode", { id: 0x1542, since: 2000 }, [
    input("hTexRef", "CUtexref"),
    input("dim", "int"),
    input("am", "CUaddress_mode"),
  ]),
  unsupported("cuTexRefSetArray", { id: 0x1543, since: 2000 }, [
    input("hTexRef", "CUtexref"),
    input("hArray", "CUarray"),
    input("Flags", "unsigned int"),
  ]),
  unsupported("cuTexRefSetBorderColor", { id: 0x1544, since: 8000 }, [
    input("hTexRef", "CUtexref"),
    input("pBorderColor", "float *"),
  ]),
  unsupported("cuTexRefSetFilterMode", { id: 0x1545, since: 2000 }, [
    input("hTexRef", "CUtexref"),
    input("fm", "CUfilter_mode"),
  ]),
  unsupported("cuTexRefSetFlags", { id: 0x1546, since: 2000 }, [
    input("hTexRef", "CUtexref"),
    input("Flags", "unsigned int"),
  ]),
  unsupported("cuTexRefSetFormat", { id: 0x1547, since: 2000 }, [
    input("hTexRef", "CUtexref"),
    input("fmt", "CUarray_format"),
    input("NumPackedComponents", "int"),
  ]),
  unsupported("cuTexRefSetMaxAnisotropy", { id: 0x1548, since: 5000 }, [
    input("hTexRef", "CUtexref"),
    input("maxAniso", "unsigned int"),
  ]),
  unsupported("cuTexRefSetMipmapFilterMode", { id: 0x1549, since: 5000 }, [
    input("hTexRef", "CUtexref"),
    input("fm", "CUfilter_mode"),
  ]),
  unsupported("cuTexRefSetMipmapLevelBias", { id: 0x154a, since: 5000 }, [
    input("hTexRef", "CUtexref"),
    input("bias", "float"),
  ]),
  unsupported("cuTexRefSetMipmapLevelClamp", { id: 0x154b, since: 5000 }, [
    input("hTexRef", "CUtexref"),
    input("minMipmapLevelClamp", "float"),
    input("maxMipmapLevelClamp", "float"),
  ]),
  unsupported("cuTexRefSetMipmappedArray", { id: 0x154c, since: 5000 }, [
    input("hTexRef", "CUtexref"),
    input("hMipmappedArray", "CUmipmappedArray"),
    input("Flags", "unsigned int"),
  ]),
]);

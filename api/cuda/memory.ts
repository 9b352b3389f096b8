import { input, local, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const memory: Noun = noun("memory", [
  unsupported("cuMemAlloc", { id: 0x0800, since: 2000 }, [
    output("dptr", "CUdeviceptr_v1 *"),
    input("bytesize", "unsigned int"),
  ]),
  manual(
    "cuMemAlloc_v2",
    {
      id: 0x0801,
      since: 3020,
      wire: { request: { size: "u64" }, reply: { address: "u64" } },
    },
    [output("dptr", "CUdeviceptr *"), input("bytesize", "size_t")],
  ),
  unsupported("cuMemAllocHost", { id: 0x0802, since: 2000 }, [
    output("pp", "void **"),
    input("bytesize", "unsigned int"),
  ]),
  local("cuMemAllocHost_v2", { id: 0x0803, since: 3020 }, [
    output("pp", "void **"),
    input("bytesize", "size_t"),
  ]),
  unsupported("cuMemAllocPitch", { id: 0x0804, since: 2000 }, [
    output("dptr", "CUdeviceptr_v1 *"),
    output("pPitch", "unsigned int *"),
    input("WidthInBytes", "unsigned int"),
    input("Height", "unsigned int"),
    input("ElementSizeBytes", "unsigned int"),
  ]),
  manual("cuMemAllocPitch_v2", { id: 0x0805, since: 3020 }, [
    output("dptr", "CUdeviceptr *"),
    output("pPitch", "size_t *"),
    input("WidthInBytes", "size_t"),
    input("Height", "size_t"),
    input("ElementSizeBytes", "unsigned int"),
  ]),
  unsupported("cuMemFree", { id: 0x0806, since: 2000 }, [input("dptr", "CUdeviceptr_v1")]),
  manual("cuMemFree_v2", { id: 0x0807, since: 3020, wire: { request: { address: "u64" } } }, [
    input("dptr", "CUdeviceptr"),
  ]),
  local("cuMemFreeHost", { id: 0x0808, since: 2000 }, [input("p", "void *")]),
  unsupported("cuMemGetAddressRange", { id: 0x0809, since: 2000 }, [
    output("pbase", "CUdeviceptr_v1 *"),
    output("psize", "unsigned int *"),
    input("dptr", "CUdeviceptr_v1"),
  ]),
  local("cuMemGetAddressRange_v2", { id: 0x080a, since: 3020 }, [
    output("pbase", "CUdeviceptr *", { nullable: true }),
    output("psize", "size_t *", { nullable: true }),
    input("dptr", "CUdeviceptr"),
  ]),
  unsupported("cuMemGetInfo", { id: 0x080b, since: 2000 }, [
    output("free", "unsigned int *"),
    output("total", "unsigned int *"),
  ]),
  manual(
    "cuMemGetInfo_v2",
    {
      id: 0x080c,
      since: 3020,
      wire: { request: {}, reply: { free: "u64", total: "u64" } },
    },
    [output("free", "size_t *"), output("total", "size_t *")],
  ),
  local("cuMemHostAlloc", { id: 0x080d, since: 2020 }, [
    output("pp", "void **"),
    input("bytesize", "size_t"),
    input("Flags", "unsigned int"),
  ]),
  unsupported("cuMemHostGetDevicePointer", { id: 0x080e, since: 2020 }, [
    output("pdptr", "CUdeviceptr_v1 *"),
    input("p", "void *"),
    input("Flags", "unsigned int"),
  ]),
  local("cuMemHostGetDevicePointer_v2", { id: 0x080f, since: 3020 }, [
    output("pdptr", "CUdeviceptr *"),
    input("p", "void *"),
    input("Flags", "unsigned int"),
  ]),
  local("cuMemHostGetFlags", { id: 0x0810, since: 2030 }, [
    output("pFlags", "unsigned int *"),
    input("p", "void *"),
  ]),
  local("cuMemHostRegister", { id: 0x0811, since: 4000, alias: "cuMemHostRegister_v2" }, [
    input("p", "void *"),
    input("bytesize", "size_t"),
    input("Flags", "unsigned int"),
  ]),
  local("cuMemHostRegister_v2", { id: 0x0812, since: 6050 }, [
    input("p", "void *"),
    input("bytesize", "size_t"),
    input("Flags", "unsigned int"),
  ]),
  local("cuMemHostUnregister", { id: 0x0813, since: 4000 }, [input("p", "void *")]),
  local("cuPointerGetAttribute", { id: 0x0814, since: 4000 }, [
    output("data", "void *"),
    input("attribute", "CUpointer_attribute"),
    input("ptr", "CUdeviceptr"),
  ]),
  local("cuPointerGetAttributes", { id: 0x0815, since: 7000 }, [
    input("numAttributes", "unsigned int"),
    input("attributes", "CUpointer_attribute *", { length: "numAttributes" }),
    output("data", "void **", { length: "numAttributes" }),
    input("ptr", "CUdeviceptr"),
  ]),
  unsupported("cuPointerSetAttribute", { id: 0x0816, since: 6000 }, [
    input("value", "const void *"),
    input("attribute", "CUpointer_attribute"),
    input("ptr", "CUdeviceptr"),
  ]),
]);

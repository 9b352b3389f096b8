import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const multicast: Noun = noun("multicast", [
  unsupported("cuMulticastAddDevice", { id: 0x1c00, since: 12010 }, [
    input("mcHandle", "CUmemGenericAllocationHandle"),
    input("dev", "CUdevice"),
  ]),
  unsupported("cuMulticastBindAddr", { id: 0x1c01, since: 12010 }, [
    input("mcHandle", "CUmemGenericAllocationHandle"),
    input("mcOffset", "size_t"),
    input("memptr", "CUdeviceptr"),
    input("size", "size_t"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMulticastBindMem", { id: 0x1c02, since: 12010 }, [
    input("mcHandle", "CUmemGenericAllocationHandle"),
    input("mcOffset", "size_t"),
    input("memHandle", "CUmemGenericAllocationHandle"),
    input("memOffset", "size_t"),
    input("size", "size_t"),
    input("flags", "unsigned long long"),
  ]),
  unsupported("cuMulticastCreate", { id: 0x1c03, since: 12010 }, [
    output("mcHandle", "CUmemGenericAllocationHandle *"),
    input("prop", "const CUmulticastObjectProp *"),
  ]),
  unsupported("cuMulticastGetGranularity", { id: 0x1c04, since: 12010 }, [
    output("granularity", "size_t *"),
    input("prop", "const CUmulticastObjectProp *"),
    input("option", "CUmulticastGranularity_flags"),
  ]),
  unsupported("cuMulticastUnbind", { id: 0x1c05, since: 12010 }, [
    input("mcHandle", "CUmemGenericAllocationHandle"),
    input("dev", "CUdevice"),
    input("mcOffset", "size_t"),
    input("size", "size_t"),
  ]),
]);

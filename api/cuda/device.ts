import { input, local, noun, output, unsupported, waiting, type Noun } from "../model.ts";

export const device: Noun = noun("device", [
  local("cuDeviceComputeCapability", { id: 0x0200, since: 2000 }, [
    output("major", "int *"),
    output("minor", "int *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGet", { id: 0x0201, since: 2000 }, [
    output("device", "CUdevice *"),
    input("ordinal", "int"),
  ]),
  local("cuDeviceGetAttribute", { id: 0x0202, since: 2000 }, [
    output("pi", "int *"),
    input("attrib", "CUdevice_attribute"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetByPCIBusId", { id: 0x0203, since: 4010 }, [
    output("dev", "CUdevice *"),
    input("pciBusId", "const char *"),
  ]),
  local("cuDeviceGetCount", { id: 0x0204, since: 2000 }, [output("count", "int *")]),
  waiting("cuDeviceGetExecAffinitySupport", { id: 0x0205, since: 11040, remembered: true }, [
    output("pi", "int *"),
    input("type", "CUexecAffinityType"),
    input("dev", "CUdevice"),
  ]),
  unsupported("cuDeviceGetHostAtomicCapabilities", { id: 0x0206, since: 13000 }, [
    output("capabilities", "unsigned int *", { length: "count" }),
    input("operations", "const CUatomicOperation *", { length: "count" }),
    input("count", "unsigned int"),
    input("dev", "CUdevice"),
  ]),
  unsupported("cuDeviceGetLuid", { id: 0x0207, since: 10000 }, [
    output("luid", "char *"),
    output("deviceNodeMask", "unsigned int *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetName", { id: 0x0208, since: 2000 }, [
    output("name", "char *", { length: "len" }),
    input("len", "int"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetPCIBusId", { id: 0x0209, since: 4010 }, [
    output("pciBusId", "char *", { length: "len" }),
    input("len", "int"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetProperties", { id: 0x020a, since: 2000 }, [
    output("prop", "CUdevprop *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetUuid", { id: 0x020b, since: 9020, alias: "cuDeviceGetUuid_v2" }, [
    output("uuid", "CUuuid *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceGetUuid_v2", { id: 0x020c, since: 11040 }, [
    output("uuid", "CUuuid *"),
    input("dev", "CUdevice"),
  ]),
  unsupported("cuDeviceTotalMem", { id: 0x020d, since: 2000 }, [
    output("bytes", "unsigned int *"),
    input("dev", "CUdevice"),
  ]),
  local("cuDeviceTotalMem_v2", { id: 0x020e, since: 3020 }, [
    output("bytes", "size_t *"),
    input("dev", "CUdevice"),
  ]),
]);

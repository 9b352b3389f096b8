import { input, local, manual, noun, output, unsupported, type Noun } from "../model.ts";

export const peer: Noun = noun("peer", [
  manual("cuCtxDisablePeerAccess", { id: 0x0500, since: 4000, wire: { request: { peer: "Context" } } }, [
    input("peerContext", "CUcontext"),
  ]),
  manual(
    "cuCtxEnablePeerAccess",
    { id: 0x0501, since: 4000, wire: { request: { peer: "Context", flags: "u32" } } },
    [input("peerContext", "CUcontext"), input("Flags", "unsigned int")],
  ),
  local("cuDeviceCanAccessPeer", { id: 0x0502, since: 4000 }, [
    output("canAccessPeer", "int *"),
    input("dev", "CUdevice"),
    input("peerDev", "CUdevice"),
  ]),
  unsupported("cuDeviceGetP2PAtomicCapabilities", { id: 0x0503, since: 13000 }, [
    output("capabilities", "unsigned int *", { length: "count" }),
    input("operations", "const CUatomicOperation *", { length: "count" }),
    input("count", "unsigned int"),
    input("srcDevice", "CUdevice"),
    input("dstDevice", "CUdevice"),
  ]),
  local("cuDeviceGetP2PAttribute", { id: 0x0504, since: 8000 }, [
    output("value", "int *"),
    input("attrib", "CUdevice_P2PAttribute"),
    input("srcDevice", "CUdevice"),
    input("dstDevice", "CUdevice"),
  ]),
]);

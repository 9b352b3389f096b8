import { creates, input, local, manual, noun, output, type Noun } from "../model.ts";

export const primaryContext: Noun = noun("primary-context", [
  local("cuDevicePrimaryCtxGetState", { id: 0x0300, since: 7000 }, [
    input("dev", "CUdevice"),
    output("flags", "unsigned int *"),
    output("active", "int *"),
  ]),
  manual("cuDevicePrimaryCtxRelease", { id: 0x0301, since: 7000, alias: "cuDevicePrimaryCtxRelease_v2" }, [
    input("dev", "CUdevice"),
  ]),
  manual("cuDevicePrimaryCtxRelease_v2", { id: 0x0302, since: 11000, wire: { request: { device: "i32" } } }, [
    input("dev", "CUdevice"),
  ]),
  manual("cuDevicePrimaryCtxReset", { id: 0x0303, since: 7000, alias: "cuDevicePrimaryCtxReset_v2" }, [
    input("dev", "CUdevice"),
  ]),
  manual("cuDevicePrimaryCtxReset_v2", { id: 0x0304, since: 11000, wire: { request: { device: "i32" } } }, [
    input("dev", "CUdevice"),
  ]),
  manual(
    "cuDevicePrimaryCtxRetain",
    {
      id: 0x0305,
      since: 7000,
      wire: { request: { device: "i32", context: "new Context" } },
    },
    [creates("pctx", "CUcontext *"), input("dev", "CUdevice")],
  ),
  local("cuDevicePrimaryCtxSetFlags", { id: 0x0306, since: 7000, alias: "cuDevicePrimaryCtxSetFlags_v2" }, [
    input("dev", "CUdevice"),
    input("flags", "unsigned int"),
  ]),
  local("cuDevicePrimaryCtxSetFlags_v2", { id: 0x0307, since: 11000 }, [
    input("dev", "CUdevice"),
    input("flags", "unsigned int"),
  ]),
]);

import { inout, input, noun, output, unsupported, type Noun } from "../model.ts";

export const greenContext: Noun = noun("green-context", [
  unsupported("cuCtxFromGreenCtx", { id: 0x1b00, since: 12040 }, [
    output("pContext", "CUcontext *"),
    input("hCtx", "CUgreenCtx"),
  ]),
  unsupported("cuCtxGetDevResource", { id: 0x1b01, since: 12040 }, [
    input("hCtx", "CUcontext"),
    output("resource", "CUdevResource *"),
    input("type", "CUdevResourceType"),
  ]),
  unsupported("cuDevResourceGenerateDesc", { id: 0x1b02, since: 12040 }, [
    output("phDesc", "CUdevResourceDesc *"),
    input("resources", "CUdevResource *", { length: "nbResources" }),
    input("nbResources", "unsigned int"),
  ]),
  unsupported("cuDevSmResourceSplitByCount", { id: 0x1b03, since: 12040 }, [
    output("result", "CUdevResource *"),
    inout("nbGroups", "unsigned int *"),
    input("input", "const CUdevResource *"),
    output("remaining", "CUdevResource *"),
    input("useFlags", "unsigned int"),
    input("minCount", "unsigned int"),
  ]),
  unsupported("cuDeviceGetDevResource", { id: 0x1b04, since: 12040 }, [
    input("device", "CUdevice"),
    output("resource", "CUdevResource *"),
    input("type", "CUdevResourceType"),
  ]),
  unsupported("cuGreenCtxCreate", { id: 0x1b05, since: 12040 }, [
    output("phCtx", "CUgreenCtx *"),
    input("desc", "CUdevResourceDesc"),
    input("dev", "CUdevice"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuGreenCtxDestroy", { id: 0x1b06, since: 12040 }, [input("hCtx", "CUgreenCtx")]),
  unsupported("cuGreenCtxGetDevResource", { id: 0x1b07, since: 12040 }, [
    input("hCtx", "CUgreenCtx"),
    output("resource", "CUdevResource *"),
    input("type", "CUdevResourceType"),
  ]),
  unsupported("cuGreenCtxGetId", { id: 0x1b08, since: 12090 }, [
    input("greenCtx", "CUgreenCtx"),
    output("greenCtxId", "unsigned long long *"),
  ]),
  unsupported("cuGreenCtxRecordEvent", { id: 0x1b09, since: 12040 }, [
    input("hCtx", "CUgreenCtx"),
    input("hEvent", "CUevent"),
  ]),
  unsupported("cuGreenCtxStreamCreate", { id: 0x1b0a, since: 12050 }, [
    output("phStream", "CUstream *"),
    input("greenCtx", "CUgreenCtx"),
    input("flags", "unsigned int"),
    input("priority", "int"),
  ]),
  unsupported("cuGreenCtxWaitEvent", { id: 0x1b0b, since: 12040 }, [
    input("hCtx", "CUgreenCtx"),
    input("hEvent", "CUevent"),
  ]),
  unsupported("cuStreamGetGreenCtx", { id: 0x1b0c, since: 12040 }, [
    input("hStream", "CUstream", { nullable: true }),
    output("phCtx", "CUgreenCtx *"),
  ]),
]);

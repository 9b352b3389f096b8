import {
  creates,
  input,
  local,
  manual,
  noun,
  oneWay,
  output,
  unsupported,
  waiting,
  type Noun,
} from "../model.ts";

export const context: Noun = noun("context", [
  unsupported("cuCtxAttach", { id: 0x0400, since: 2000 }, [
    output("pctx", "CUcontext *"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuCtxCreate", { id: 0x0401, since: 2000 }, [
    output("pctx", "CUcontext *"),
    input("flags", "unsigned int"),
    input("dev", "CUdevice"),
  ]),
  manual(
    "cuCtxCreate_v2",
    {
      id: 0x0402,
      since: 3020,
      wire: { request: { context: "new Context", flags: "u32", device: "i32" } },
    },
    [creates("pctx", "CUcontext *"), input("flags", "unsigned int"), input("dev", "CUdevice")],
  ),
  manual("cuCtxCreate_v3", { id: 0x0403, since: 11040 }, [
    creates("pctx", "CUcontext *"),
    input("paramsArray", "CUexecAffinityParam *", { length: "numParams" }),
    input("numParams", "int"),
    input("flags", "unsigned int"),
    input("dev", "CUdevice"),
  ]),
  manual("cuCtxCreate_v4", { id: 0x0404, since: 12050 }, [
    creates("pctx", "CUcontext *"),
    input("ctxCreateParams", "CUctxCreateParams *", { nullable: true }),
    input("flags", "unsigned int"),
    input("dev", "CUdevice"),
  ]),
  manual("cuCtxDestroy", { id: 0x0405, since: 2000, alias: "cuCtxDestroy_v2" }, [input("ctx", "CUcontext")]),
  manual("cuCtxDestroy_v2", { id: 0x0406, since: 4000, wire: { request: { context: "Context" } } }, [
    input("ctx", "CUcontext"),
  ]),
  unsupported("cuCtxDetach", { id: 0x0407, since: 2000 }, [input("ctx", "CUcontext")]),
  local("cuCtxGetApiVersion", { id: 0x0408, since: 3020 }, [
    input("ctx", "CUcontext"),
    output("version", "unsigned int *"),
  ]),
  waiting("cuCtxGetCacheConfig", { id: 0x0409, since: 3020, remembered: true }, [
    output("pconfig", "CUfunc_cache *"),
  ]),
  local("cuCtxGetCurrent", { id: 0x040a, since: 4000 }, [output("pctx", "CUcontext *")]),
  local("cuCtxGetDevice", { id: 0x040b, since: 2000 }, [output("device", "CUdevice *")]),
  local("cuCtxGetDevice_v2", { id: 0x040c, since: 13000 }, [
    output("device", "CUdevice *"),
    input("ctx", "CUcontext", { nullable: true }),
  ]),
  unsupported("cuCtxGetExecAffinity", { id: 0x040d, since: 11040 }, [
    output("pExecAffinity", "CUexecAffinityParam *"),
    input("type", "CUexecAffinityType"),
  ]),
  local("cuCtxGetFlags", { id: 0x040e, since: 7000 }, [output("flags", "unsigned int *")]),
  local("cuCtxGetId", { id: 0x040f, since: 12000 }, [
    input("ctx", "CUcontext", { nullable: true }),
    output("ctxId", "unsigned long long *"),
  ]),
  waiting("cuCtxGetLimit", { id: 0x0410, since: 3010, remembered: true }, [
    output("pvalue", "size_t *"),
    input("limit", "CUlimit"),
  ]),
  waiting("cuCtxGetSharedMemConfig", { id: 0x0411, since: 4020, remembered: true }, [
    output("pConfig", "CUsharedconfig *"),
  ]),
  waiting("cuCtxGetStreamPriorityRange", { id: 0x0412, since: 5050, remembered: true }, [
    output("leastPriority", "int *", { nullable: true }),
    output("greatestPriority", "int *", { nullable: true }),
  ]),
  local("cuCtxPopCurrent", { id: 0x0413, since: 2000, alias: "cuCtxPopCurrent_v2" }, [
    output("pctx", "CUcontext *"),
  ]),
  local("cuCtxPopCurrent_v2", { id: 0x0414, since: 4000 }, [output("pctx", "CUcontext *")]),
  local("cuCtxPushCurrent", { id: 0x0415, since: 2000, alias: "cuCtxPushCurrent_v2" }, [
    input("ctx", "CUcontext"),
  ]),
  local("cuCtxPushCurrent_v2", { id: 0x0416, since: 4000 }, [input("ctx", "CUcontext")]),
  oneWay(
    "cuCtxRecordEvent",
    {
      refused: "wait_for_context(client, Some(hCtx))",
      id: 0x0417,
      since: 12050,
      hook: "event_recorded_on_context",
    },
    [input("hCtx", "CUcontext"), input("hEvent", "CUevent")],
  ),
  waiting("cuCtxResetPersistingL2Cache", { id: 0x0418, since: 11000 }, []),
  oneWay("cuCtxSetCacheConfig", { id: 0x0419, since: 3020, check: "cache_config(config)", forgets: true }, [
    input("config", "CUfunc_cache"),
  ]),
  local("cuCtxSetCurrent", { id: 0x041a, since: 4000 }, [input("ctx", "CUcontext", { nullable: true })]),
  unsupported("cuCtxSetFlags", { id: 0x041b, since: 12010 }, [input("flags", "unsigned int")]),
  oneWay("cuCtxSetLimit", { id: 0x041c, since: 3010, check: "limit(limit)", forgets: true }, [
    input("limit", "CUlimit"),
    input("value", "size_t"),
  ]),
  oneWay("cuCtxSetSharedMemConfig", { id: 0x041d, since: 4020, forgets: true }, [
    input("config", "CUsharedconfig"),
  ]),
  waiting(
    "cuCtxSynchronize",
    {
      refused: "wait_for_context(client, None)",
      id: 0x041e,
      since: 2000,
      known: "context_is_idle(client)",
      hook: "context_synchronised",
    },
    [],
  ),
  waiting(
    "cuCtxSynchronize_v2",
    {
      refused: "wait_for_context(client, Some(ctx))",
      id: 0x041f,
      since: 13000,
      known: "some_context_is_idle(client, ctx)",
      hook: "some_context_synchronised",
    },
    [input("ctx", "CUcontext", { nullable: true })],
  ),
  oneWay(
    "cuCtxWaitEvent",
    { refused: "wait_for_context(client, Some(hCtx))", id: 0x0420, since: 12050, hook: "context_waits" },
    [input("hCtx", "CUcontext"), input("hEvent", "CUevent")],
  ),
]);

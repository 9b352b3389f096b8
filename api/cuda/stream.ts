import {
  creates,
  destroys,
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

export const stream: Noun = noun("stream", [
  manual("cuStreamAddCallback", { id: 0x0b00, since: 5000, perThread: { suffix: "ptsz", since: 7000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    input("callback", "CUstreamCallback"),
    input("userData", "void *"),
    input("flags", "unsigned int"),
  ]),
  oneWay(
    "cuStreamCopyAttributes",
    { id: 0x0b01, since: 11000, perThread: { suffix: "ptsz", since: 11000 } },
    [input("dst", "CUstream", { nullable: true }), input("src", "CUstream", { nullable: true })],
  ),
  oneWay(
    "cuStreamCreate",
    { id: 0x0b02, since: 2000, check: "stream_flags(Flags)", hook: "stream_created" },
    [creates("phStream", "CUstream *"), input("Flags", "unsigned int")],
  ),
  oneWay(
    "cuStreamCreateWithPriority",
    { id: 0x0b03, since: 5050, check: "stream_flags(flags)", hook: "stream_created_with_priority" },
    [creates("phStream", "CUstream *"), input("flags", "unsigned int"), input("priority", "int")],
  ),
  oneWay("cuStreamDestroy", { id: 0x0b04, since: 2000, alias: "cuStreamDestroy_v2" }, [
    input("hStream", "CUstream", { nullable: true }),
  ]),
  oneWay(
    "cuStreamDestroy_v2",
    { id: 0x0b05, since: 4000, check: "stream_goes(client, hStream)", hook: "stream_destroyed" },
    [destroys("hStream", "CUstream")],
  ),
  unsupported(
    "cuStreamGetAttribute",
    {
      id: 0x0b06,
      since: 11000,
      perThread: { suffix: "ptsz", since: 11000 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("attr", "CUstreamAttrID"),
      output("value_out", "CUstreamAttrValue *"),
    ],
  ),
  local("cuStreamGetCtx", { id: 0x0b07, since: 9020, perThread: { suffix: "ptsz", since: 9020 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("pctx", "CUcontext *"),
  ]),
  local("cuStreamGetCtx_v2", { id: 0x0b08, since: 12050, perThread: { suffix: "ptsz", since: 12050 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("pCtx", "CUcontext *"),
    output("pGreenCtx", "CUgreenCtx *"),
  ]),
  local("cuStreamGetDevice", { id: 0x0b09, since: 12080, perThread: { suffix: "ptsz", since: 12080 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("device", "CUdevice *"),
  ]),
  local("cuStreamGetFlags", { id: 0x0b0a, since: 5050, perThread: { suffix: "ptsz", since: 7000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("flags", "unsigned int *"),
  ]),
  local("cuStreamGetId", { id: 0x0b0b, since: 12000, perThread: { suffix: "ptsz", since: 12000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("streamId", "unsigned long long *"),
  ]),
  local("cuStreamGetPriority", { id: 0x0b0c, since: 5050, perThread: { suffix: "ptsz", since: 7000 } }, [
    input("hStream", "CUstream", { nullable: true }),
    output("priority", "int *"),
  ]),
  waiting(
    "cuStreamQuery",
    {
      refused: "waited(client, hStream)",
      id: 0x0b0d,
      known: "stream(client, hStream)",
      since: 2000,
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [input("hStream", "CUstream", { nullable: true })],
  ),
  unsupported(
    "cuStreamSetAttribute",
    {
      id: 0x0b0e,
      since: 11000,
      perThread: { suffix: "ptsz", since: 11000 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("attr", "CUstreamAttrID"),
      input("value", "const CUstreamAttrValue *"),
    ],
  ),
  waiting(
    "cuStreamSynchronize",
    {
      refused: "waited(client, hStream)",
      id: 0x0b0f,
      since: 2000,
      known: "stream_is_idle(client, hStream)",
      hook: "stream_synchronised",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [input("hStream", "CUstream", { nullable: true })],
  ),
  oneWay(
    "cuStreamWaitEvent",
    {
      captured: "wait_event(client, hStream, hEvent, Flags)",
      elsewhere: "wait(hStream, hEvent, Flags)",
      id: 0x0b10,
      since: 3020,
      check: "wait_flags(Flags)",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [
      input("hStream", "CUstream", { nullable: true }),
      input("hEvent", "CUevent"),
      input("Flags", "unsigned int"),
    ],
  ),
]);

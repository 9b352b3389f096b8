import { creates, destroys, input, noun, oneWay, output, waiting, type Noun } from "../model.ts";

export const event: Noun = noun("event", [
  oneWay("cuEventCreate", { id: 0x0c00, since: 2000, check: "event_flags(Flags)", hook: "event_created" }, [
    creates("phEvent", "CUevent *"),
    input("Flags", "unsigned int"),
  ]),
  oneWay("cuEventDestroy", { id: 0x0c01, since: 2000, alias: "cuEventDestroy_v2" }, [
    input("hEvent", "CUevent"),
  ]),
  oneWay("cuEventDestroy_v2", { id: 0x0c02, since: 4000, hook: "event_destroyed" }, [
    destroys("hEvent", "CUevent"),
  ]),
  waiting(
    "cuEventElapsedTime",
    { refused: "both_uncaptured(client, hStart, hEnd)", id: 0x0c03, since: 2000 },
    [output("pMilliseconds", "float *"), input("hStart", "CUevent"), input("hEnd", "CUevent")],
  ),
  waiting(
    "cuEventElapsedTime_v2",
    { refused: "both_uncaptured(client, hStart, hEnd)", id: 0x0c04, since: 12080 },
    [output("pMilliseconds", "float *"), input("hStart", "CUevent"), input("hEnd", "CUevent")],
  ),
  waiting(
    "cuEventQuery",
    { refused: "event_waited(client, hEvent)", id: 0x0c05, since: 2000, known: "event(client, hEvent)" },
    [input("hEvent", "CUevent")],
  ),
  oneWay(
    "cuEventRecord",
    {
      captured: "record_event(client, hStream, hEvent, 0)",
      id: 0x0c06,
      since: 2000,
      check: "recordable(client, hEvent, hStream)",
      hook: "event_recorded",
      perThread: { suffix: "ptsz", since: 7000 },
    },
    [input("hEvent", "CUevent"), input("hStream", "CUstream", { nullable: true })],
  ),
  oneWay(
    "cuEventRecordWithFlags",
    {
      captured: "record_event(client, hStream, hEvent, flags)",
      id: 0x0c07,
      since: 11010,
      check: "recordable(client, hEvent, hStream)",
      hook: "event_recorded_with_flags",
      perThread: { suffix: "ptsz", since: 11010 },
    },
    [
      input("hEvent", "CUevent"),
      input("hStream", "CUstream", { nullable: true }),
      input("flags", "unsigned int"),
    ],
  ),
  waiting(
    "cuEventSynchronize",
    {
      refused: "event_waited(client, hEvent)",
      id: 0x0c08,
      since: 2000,
      known: "event_is_reached(client, hEvent)",
    },
    [input("hEvent", "CUevent")],
  ),
]);

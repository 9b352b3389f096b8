import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const ipc: Noun = noun("ipc", [
  unsupported("cuIpcCloseMemHandle", { id: 0x1800, since: 4010 }, [input("dptr", "CUdeviceptr")]),
  unsupported("cuIpcGetEventHandle", { id: 0x1801, since: 4010 }, [
    output("pHandle", "CUipcEventHandle *"),
    input("event", "CUevent"),
  ]),
  unsupported("cuIpcGetMemHandle", { id: 0x1802, since: 4010 }, [
    output("pHandle", "CUipcMemHandle *"),
    input("dptr", "CUdeviceptr"),
  ]),
  unsupported("cuIpcOpenEventHandle", { id: 0x1803, since: 4010 }, [
    output("phEvent", "CUevent *"),
    input("handle", "CUipcEventHandle"),
  ]),
  unsupported("cuIpcOpenMemHandle", { id: 0x1804, since: 4010 }, [
    output("pdptr", "CUdeviceptr *"),
    input("handle", "CUipcMemHandle"),
    input("Flags", "unsigned int"),
  ]),
  unsupported("cuIpcOpenMemHandle_v2", { id: 0x1805, since: 11000 }, [
    output("pdptr", "CUdeviceptr *"),
    input("handle", "CUipcMemHandle"),
    input("Flags", "unsigned int"),
  ]),
]);

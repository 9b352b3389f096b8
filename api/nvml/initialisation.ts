import { input, output } from "../model.ts";
import { answered, nvmlNoun, type NvmlNoun } from "./model.ts";

export const initialisation: NvmlNoun = nvmlNoun("initialisation", [
  answered("nvmlInit", []),
  answered("nvmlInit_v2", []),
  answered("nvmlInitWithFlags", [input("flags", "unsigned int")]),
  answered("nvmlShutdown", []),
  { symbol: "nvmlErrorString", parameters: [input("result", "nvmlReturn_t")], result: "const char *" },
  // Not in nvml.h: NVIDIA's own tools ask for private tables by it, and crash where they get half an answer.
  answered("nvmlInternalGetExportTable", [
    output("exportTable", "const void **"),
    input("exportTableId", "const void *"),
  ]),
]);

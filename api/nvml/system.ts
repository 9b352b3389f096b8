import { input, inout, output } from "../model.ts";
import { answered, nvmlNoun, type NvmlNoun } from "./model.ts";

const versionText = [
  output("version", "char *", { length: "length" }),
  input("length", "unsigned int"),
] as const;

export const system: NvmlNoun = nvmlNoun("system", [
  answered("nvmlSystemGetDriverVersion", versionText),
  answered("nvmlSystemGetNVMLVersion", versionText),
  answered("nvmlSystemGetCudaDriverVersion", [output("cudaDriverVersion", "int *")]),
  answered("nvmlSystemGetCudaDriverVersion_v2", [output("cudaDriverVersion", "int *")]),
  answered("nvmlSystemGetProcessName", [
    input("pid", "unsigned int"),
    output("name", "char *", { length: "length" }),
    input("length", "unsigned int"),
  ]),
  answered("nvmlSystemGetHicVersion", [
    inout("hwbcCount", "unsigned int *"),
    output("hwbcEntries", "nvmlHwbcEntry_t *"),
  ]),
  answered("nvmlUnitGetCount", [output("unitCount", "unsigned int *")]),
]);

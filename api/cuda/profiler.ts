import { input, local, noun, unsupported, type Noun } from "../model.ts";

export const profiler: Noun = noun("profiler", [
  unsupported("cuProfilerInitialize", { id: 0x0f00, since: 4000 }, [
    input("configFile", "const char *"),
    input("outputFile", "const char *"),
    input("outputMode", "CUoutput_mode"),
  ]),
  local("cuProfilerStart", { id: 0x0f01, since: 4000, constant: true }, []),
  local("cuProfilerStop", { id: 0x0f02, since: 4000, constant: true }, []),
]);

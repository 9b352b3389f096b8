import { input, local, noun, output, type Noun } from "../model.ts";

export const initialisation: Noun = noun("initialisation", [
  local("cuDriverGetVersion", { id: 0x0100, since: 2020 }, [output("driverVersion", "int *")]),
  local("cuGetErrorName", { id: 0x0101, since: 6000 }, [
    input("error", "CUresult"),
    output("pStr", "const char **"),
  ]),
  local("cuGetErrorString", { id: 0x0102, since: 6000 }, [
    input("error", "CUresult"),
    output("pStr", "const char **"),
  ]),
  local("cuGetExportTable", { id: 0x0103, since: 3000 }, [
    output("ppExportTable", "const void **"),
    input("pExportTableId", "const CUuuid *"),
  ]),
  local("cuGetProcAddress", { id: 0x0104, since: 11030 }, [
    input("symbol", "const char *"),
    output("pfn", "void **"),
    input("cudaVersion", "int"),
    input("flags", "cuuint64_t"),
  ]),
  local("cuGetProcAddress_v2", { id: 0x0105, since: 12000 }, [
    input("symbol", "const char *"),
    output("pfn", "void **"),
    input("cudaVersion", "int"),
    input("flags", "cuuint64_t"),
    output("symbolStatus", "CUdriverProcAddressQueryResult *", { nullable: true }),
  ]),
  local("cuInit", { id: 0x0106, since: 2000 }, [input("Flags", "unsigned int")]),
]);

import { creates, input, local, manual, noun, output, unsupported, waiting, type Noun } from "../model.ts";

export const module: Noun = noun("module", [
  local("cuModuleEnumerateFunctions", { id: 0x0600, since: 12040 }, [
    output("functions", "CUfunction *", { length: "numFunctions" }),
    input("numFunctions", "unsigned int"),
    input("mod", "CUmodule"),
  ]),
  manual(
    "cuModuleGetFunction",
    {
      id: 0x0601,
      since: 2000,
      wire: {
        request: { module: "Module", function: "new Function", name: "bytes" },
        reply: { attributes: "list AttributeValue", parameters: "list ParameterInfo" },
      },
    },
    [creates("hfunc", "CUfunction *"), input("hmod", "CUmodule"), input("name", "const char *")],
  ),
  waiting("cuModuleGetFunctionCount", { id: 0x0602, since: 12040, remembered: true }, [
    output("count", "unsigned int *"),
    input("mod", "CUmodule"),
  ]),
  unsupported("cuModuleGetGlobal", { id: 0x0603, since: 2000 }, [
    output("dptr", "CUdeviceptr_v1 *"),
    output("bytes", "unsigned int *"),
    input("hmod", "CUmodule"),
    input("name", "const char *"),
  ]),
  manual(
    "cuModuleGetGlobal_v2",
    {
      id: 0x0604,
      since: 3020,
      wire: { request: { module: "Module", name: "bytes" }, reply: { address: "u64", size: "u64" } },
    },
    [
      output("dptr", "CUdeviceptr *", { nullable: true }),
      output("bytes", "size_t *", { nullable: true }),
      input("hmod", "CUmodule"),
      input("name", "const char *"),
    ],
  ),
  local("cuModuleGetLoadingMode", { id: 0x0605, since: 11070 }, [output("mode", "CUmoduleLoadingMode *")]),
  manual("cuModuleLoad", { id: 0x0606, since: 2000 }, [
    creates("module", "CUmodule *"),
    input("fname", "const char *"),
  ]),
  manual("cuModuleLoadData", { id: 0x0607, since: 2000 }, [
    creates("module", "CUmodule *"),
    input("image", "const void *"),
  ]),
  manual(
    "cuModuleLoadDataEx",
    {
      id: 0x0608,
      since: 2010,
      wire: {
        request: { module: "new Module", blob: "u64", image: "bytes", options: "list OptionValue" },
        // The code table of native/wire/src/code_table.rs; empty where the driver cannot tell.
        reply: { infoLog: "bytes", errorLog: "bytes", code: "bytes" },
      },
    },
    [
      creates("module", "CUmodule *"),
      input("image", "const void *"),
      input("numOptions", "unsigned int"),
      input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
      input("optionValues", "void **", { nullable: true, length: "numOptions" }),
    ],
  ),
  manual("cuModuleLoadFatBinary", { id: 0x0609, since: 2000 }, [
    creates("module", "CUmodule *"),
    input("fatCubin", "const void *"),
  ]),
  manual("cuModuleUnload", { id: 0x060a, since: 2000, wire: { request: { module: "Module" } } }, [
    input("hmod", "CUmodule"),
  ]),
]);

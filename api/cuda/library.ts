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

export const library: Noun = noun("library", [
  local("cuKernelGetAttribute", { id: 0x0700, since: 12000 }, [
    output("pi", "int *"),
    input("attrib", "CUfunction_attribute"),
    input("kernel", "CUkernel"),
    input("dev", "CUdevice"),
  ]),
  manual(
    "cuKernelGetFunction",
    {
      id: 0x0701,
      since: 12000,
      wire: {
        request: { kernel: "Kernel", function: "new Function" },
        reply: { attributes: "list AttributeValue", parameters: "list ParameterInfo" },
      },
    },
    [creates("pFunc", "CUfunction *"), input("kernel", "CUkernel")],
  ),
  local("cuKernelGetLibrary", { id: 0x0702, since: 12050 }, [
    output("pLib", "CUlibrary *"),
    input("kernel", "CUkernel"),
  ]),
  local("cuKernelGetName", { id: 0x0703, since: 12030 }, [
    output("name", "const char **"),
    input("hfunc", "CUkernel"),
  ]),
  local("cuKernelGetParamInfo", { id: 0x0704, since: 12040 }, [
    input("kernel", "CUkernel"),
    input("paramIndex", "size_t"),
    output("paramOffset", "size_t *"),
    output("paramSize", "size_t *", { nullable: true }),
  ]),
  oneWay(
    "cuKernelSetAttribute",
    {
      id: 0x0705,
      since: 12000,
      check: "function_attribute(client, kernel.raw(), attrib, val)",
      hook: "kernel_attribute_set",
      forgets: true,
    },
    [
      input("attrib", "CUfunction_attribute"),
      input("val", "int"),
      input("kernel", "CUkernel"),
      input("dev", "CUdevice"),
    ],
  ),
  oneWay("cuKernelSetCacheConfig", { id: 0x0706, since: 12000, forgets: true }, [
    input("kernel", "CUkernel"),
    input("config", "CUfunc_cache"),
    input("dev", "CUdevice"),
  ]),
  local("cuLibraryEnumerateKernels", { id: 0x0707, since: 12040 }, [
    output("kernels", "CUkernel *", { length: "numKernels" }),
    input("numKernels", "unsigned int"),
    input("lib", "CUlibrary"),
  ]),
  manual(
    "cuLibraryGetGlobal",
    {
      id: 0x0708,
      since: 12000,
      wire: { request: { library: "Library", name: "bytes" }, reply: { address: "u64", size: "u64" } },
    },
    [
      output("dptr", "CUdeviceptr *", { nullable: true }),
      output("bytes", "size_t *", { nullable: true }),
      input("library", "CUlibrary"),
      input("name", "const char *"),
    ],
  ),
  manual(
    "cuLibraryGetKernel",
    {
      id: 0x0709,
      since: 12000,
      wire: {
        request: { library: "Library", kernel: "new Kernel", name: "bytes" },
        reply: { attributes: "list AttributeValue", parameters: "list ParameterInfo" },
      },
    },
    [creates("pKernel", "CUkernel *"), input("library", "CUlibrary"), input("name", "const char *")],
  ),
  waiting("cuLibraryGetKernelCount", { id: 0x070a, since: 12040, remembered: true }, [
    output("count", "unsigned int *"),
    input("lib", "CUlibrary"),
  ]),
  manual(
    "cuLibraryGetModule",
    {
      id: 0x070b,
      since: 12000,
      wire: { request: { library: "Library", module: "new Module" } },
    },
    [creates("pMod", "CUmodule *"), input("library", "CUlibrary")],
  ),
  unsupported("cuLibraryGetUnifiedFunction", { id: 0x070c, since: 12000 }, [
    output("fptr", "void **"),
    input("library", "CUlibrary"),
    input("symbol", "const char *"),
  ]),
  manual(
    "cuLibraryLoadData",
    {
      id: 0x070d,
      since: 12000,
      wire: {
        request: {
          library: "new Library",
          blob: "u64",
          image: "bytes",
          options: "list OptionValue",
          libraryOptions: "list OptionValue",
        },
        reply: { infoLog: "bytes", errorLog: "bytes", code: "bytes" },
      },
    },
    [
      creates("library", "CUlibrary *"),
      input("code", "const void *"),
      input("jitOptions", "CUjit_option *", { nullable: true, length: "numJitOptions" }),
      input("jitOptionsValues", "void **", { nullable: true, length: "numJitOptions" }),
      input("numJitOptions", "unsigned int"),
      input("libraryOptions", "CUlibraryOption *", { nullable: true, length: "numLibraryOptions" }),
      input("libraryOptionValues", "void **", { nullable: true, length: "numLibraryOptions" }),
      input("numLibraryOptions", "unsigned int"),
    ],
  ),
  manual("cuLibraryLoadFromFile", { id: 0x070e, since: 12000 }, [
    creates("library", "CUlibrary *"),
    input("fileName", "const char *"),
    input("jitOptions", "CUjit_option *", { nullable: true, length: "numJitOptions" }),
    input("jitOptionsValues", "void **", { nullable: true, length: "numJitOptions" }),
    input("numJitOptions", "unsigned int"),
    input("libraryOptions", "CUlibraryOption *", { nullable: true, length: "numLibraryOptions" }),
    input("libraryOptionValues", "void **", { nullable: true, length: "numLibraryOptions" }),
    input("numLibraryOptions", "unsigned int"),
  ]),
  manual("cuLibraryUnload", { id: 0x070f, since: 12000, wire: { request: { library: "Library" } } }, [
    input("library", "CUlibrary"),
  ]),
]);

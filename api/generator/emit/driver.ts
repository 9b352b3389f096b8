/** native/driver/src/generated/functions.rs: the functions of a loaded libcuda that the worker calls. */

import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import { rustName, rustParameters } from "./abi-signatures.ts";

/** Calls that programs do not have, and that the worker makes for their memory. */
const FOR_THE_WORKER: ReadonlySet<string> = new Set([
  "cuMemAddressFree",
  "cuMemAddressReserve",
  "cuMemCreate",
  "cuMemGetAllocationGranularity",
  "cuMemMap",
  "cuMemRelease",
  "cuMemSetAccess",
  "cuMemUnmap",
]);

export function emitDriver(schema: Schema): RustFile {
  const file = new RustFile("native/driver/src/generated/functions.rs", {
    emitter: "driver.ts",
    doc: "One method per call that the worker uses.",
    allow: [...VENDOR_NAMES, "missing_docs", "clippy::missing_safety_doc", "clippy::too_many_arguments"],
  });
  const calls = schema.calls.filter(
    (call) => (call.class !== "unsupported" && call.alias === undefined) || FOR_THE_WORKER.has(call.symbol),
  );
  file.print(
    "use std::ffi::{c_char, c_void};",
    "",
    "use cuda_abi::*;",
    "",
    "/// The functions of a libcuda, by name; `None` where it lacks one.",
    "#[derive(Debug)]",
    "pub struct Functions {",
    ...calls.map((call) => `${call.symbol}: Option<PFN_${call.symbol}>,`),
    "}",
    "",
    "impl Functions {",
    "    /// Looks every function up.",
    "    ///",
    "    /// # Safety",
    "    /// `library` is a libcuda: its functions have CUDA's signatures. It stays loaded as long as the result is used.",
    "    pub unsafe fn load(library: &libloading::Library) -> Functions {",
    "        // SAFETY: the type of each function is that of CUDA's interface, which the library keeps.",
    "        unsafe {",
    "            Functions {",
    ...calls.map(
      ({ symbol }) => `${symbol}: library.get::<PFN_${symbol}>(b"${symbol}\\0").ok().map(|found| *found),`,
    ),
    "            }",
    "        }",
    "    }",
  );
  for (const call of calls) {
    const values = call.parameters.map((parameter) => rustName(parameter.name)).join(", ");
    file.print(
      "",
      `pub unsafe fn ${call.symbol}(${["&self", rustParameters(call)].filter(Boolean).join(", ")}) -> CUresult {`,
      `    match self.${call.symbol} {`,
      "        // SAFETY: the caller keeps the contract of this call.",
      `        Some(driver_function) => unsafe { driver_function(${values}) },`,
      "        None => CUresult::NOT_FOUND,",
      "    }",
      "}",
    );
  }
  file.print("}");
  return file;
}

/** native/nvml/src/generated: NVML's types with layouts asserted, and the signature of every answered call. */

import { nvmlResults } from "../../nvml/results.ts";
import {
  nvmlAliases,
  nvmlConstants,
  nvmlEnums,
  nvmlHandles,
  nvmlOpaque,
  nvmlStructs,
} from "../../nvml/types.ts";
import type { NvmlCall } from "../../nvml/model.ts";
import { rustType } from "../c-types.ts";
import type { NvmlSchema } from "../nvml-schema.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import { rustName } from "./abi-signatures.ts";
import { EXPORT_LINTS } from "./library.ts";
import { printEnum, printHandle, printStruct } from "./abi-types.ts";

const TYPES = "native/nvml/src/generated";

export function emitNvmlTypes(schema: NvmlSchema): readonly RustFile[] {
  return [emitModule(), emitTypes(), emitSignatures(schema)];
}

function emitModule(): RustFile {
  const file = nvmlFile(TYPES, "mod", "The generated part of this crate.");
  file.print("pub(crate) mod signatures;", "pub(crate) mod types;");
  return file;
}

function emitTypes(): RustFile {
  const file = nvmlFile(
    TYPES,
    "types",
    "The types of NVML's signatures.\n\nHandles are numbers, not pointers: what they point to is nobody's business but the library's that made\nthem. Enumerations are plain integers, because a newer program may pass values that we do not know.",
  );
  file.print("use std::ffi::{CStr, c_char};", "");
  printReturn(file);
  for (const name of nvmlHandles) printHandle(file, name);
  for (const [name, target] of Object.entries(nvmlAliases)) file.print(`pub type ${name} = ${target};`);
  for (const [name, values] of Object.entries(nvmlEnums)) printEnum(file, name, values);
  file.print("");
  for (const [name, type, value] of nvmlConstants) file.print(`pub const ${name}: ${type} = ${value};`);
  for (const name of nvmlOpaque) {
    file.print("", "#[repr(C)]", `pub struct ${name} {`, "    _opaque: [u8; 0],", "}");
  }
  for (const struct of nvmlStructs) printStruct(file, struct);
  return file;
}

function printReturn(file: RustFile): void {
  file.print(
    "/// What every call answers. Any number is possible: newer libraries have codes that we do not know.",
    "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]",
    "#[repr(transparent)]",
    "pub struct nvmlReturn_t(pub u32);",
    "",
    "impl nvmlReturn_t {",
  );
  for (const [name, value, description] of nvmlResults) {
    file.print(
      `    /// ${description}.`,
      `    pub const ${name.replace(/^NVML_(ERROR_)?/, "")}: nvmlReturn_t = nvmlReturn_t(${value});`,
    );
  }
  file.print(
    "",
    "    /// A few words, as `nvmlErrorString` answers.",
    "    pub fn description(self) -> Option<&'static CStr> {",
    "        Some(match self.0 {",
    ...nvmlResults.map(([, value, description]) => `            ${value} => c"${description}",`),
    "            _ => return None,",
    "        })",
    "    }",
    "}",
  );
}

function emitSignatures({ calls }: NvmlSchema): RustFile {
  const file = nvmlFile(TYPES, "signatures", "The signature of every call that is answered.");
  file.print("use std::ffi::{c_char, c_void};", "", "use super::types::*;", "");
  for (const call of calls) {
    file.print(
      `pub type PFN_${call.symbol} = unsafe extern "C" fn(${nvmlParameters(call)}) -> ${rustType(call.result)};`,
    );
  }
  return file;
}

/** `device: nvmlDevice_t, index: *mut u32` */
export function nvmlParameters({ parameters }: NvmlCall): string {
  return parameters.map(({ name, type }) => `${rustName(name)}: ${rustType(type)}`).join(", ");
}

/** A generated file in `folder`, by its name without the ending. */
export function nvmlFile(folder: string, name: string, doc: string): RustFile {
  const isTypes = folder === TYPES;
  return new RustFile(`${folder}/${name}.rs`, {
    emitter: isTypes ? "nvml-types.ts" : "nvml-library.ts",
    doc,
    allow: name === "mod" ? [] : isTypes ? [...VENDOR_NAMES, "missing_docs"] : EXPORT_LINTS,
    api: "nvml",
  });
}

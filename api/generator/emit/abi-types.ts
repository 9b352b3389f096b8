/** native/cuda-abi/src/generated/types.rs: every type of a signature, with layouts asserted. */

import { deviceAttributes } from "../../cuda/device-attributes.ts";
import { enums, type Values } from "../../cuda/enums.ts";
import { results } from "../../cuda/results.ts";
import { structs, type Struct } from "../../cuda/structs.ts";
import { aliases, callbacks, constants, handles, opaque, plainEnums } from "../../cuda/types.ts";
import { enumRepresentation, rustType } from "../c-types.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";

export function emitAbiTypes(): RustFile {
  const file = new RustFile("native/cuda-abi/src/generated/types.rs", {
    emitter: "abi-types.ts",
    doc: "The types of CUDA's signatures: results, handles, enumerations, structures.\n\nHandles are numbers, not pointers: what they point to is nobody's business but the library's that made\nthem. Enumerations are plain integers, because a newer program may pass values that we do not know.",
    allow: [...VENDOR_NAMES, "missing_docs"],
  });
  file.print("use std::ffi::{CStr, c_char, c_void};", "");
  printResult(file);
  for (const name of Object.keys(handles)) {
    printHandle(file, name);
  }
  for (const [name, target] of Object.entries(aliases)) {
    file.print(`pub type ${name} = ${target};`);
  }
  for (const [name, signature] of Object.entries(callbacks)) {
    file.print(`pub type ${name} = Option<unsafe extern "C" fn${signature}>;`);
  }
  for (const name of plainEnums) {
    file.print(`pub type ${name} = ${enumRepresentation(name)};`);
  }
  printEnum(file, "CUdevice_attribute", deviceAttributes);
  for (const [name, values] of Object.entries(enums)) {
    printEnum(file, name, values);
  }
  file.print("");
  for (const [name, type, value] of constants) {
    file.print(`pub const ${name}: ${type} = ${value};`);
  }
  for (const name of opaque) {
    file.print("", "#[repr(C)]", `pub struct ${name} {`, "    _opaque: [u8; 0],", "}");
  }
  for (const struct of structs) {
    printStruct(file, struct);
  }
  return file;
}

/** native/cuda-abi/src/generated/mod.rs */
export function emitAbiModule(): RustFile {
  const file = new RustFile("native/cuda-abi/src/generated/mod.rs", {
    emitter: "abi-types.ts",
    doc: "The generated part of this crate.",
    allow: [],
  });
  file.print("pub(crate) mod proc_address;", "pub(crate) mod signatures;", "pub(crate) mod types;");
  return file;
}

function printResult(file: RustFile): void {
  file.print(
    "/// What every call answers. Any number is possible: newer drivers have codes that we do not know.",
    "#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]",
    "#[repr(transparent)]",
    "pub struct CUresult(pub i32);",
    "",
    "impl CUresult {",
  );
  for (const [name, value, description] of results) {
    file.print(`    /// ${description}`, `    pub const ${shortName(name)}: CUresult = CUresult(${value});`);
  }
  file.print(
    "",
    "    /// Whether this is `CUDA_SUCCESS`.",
    "    pub fn is_success(self) -> bool {",
    "        self.0 == 0",
    "    }",
    "",
    "    /// `Ok` for success, so that `?` leaves with any other code.",
    "    pub fn into_result(self) -> Result<(), CUresult> {",
    "        if self.is_success() { Ok(()) } else { Err(self) }",
    "    }",
    "",
    "    /// The name, as `cuGetErrorName` answers.",
    "    pub fn name(self) -> Option<&'static CStr> {",
    "        Some(match self.0 {",
  );
  for (const [name, value] of results) {
    file.print(`            ${value} => c"${name}",`);
  }
  file.print(
    "            _ => return None,",
    "        })",
    "    }",
    "",
    "    /// A sentence, as `cuGetErrorString` answers.",
    "    pub fn description(self) -> Option<&'static CStr> {",
    "        Some(match self.0 {",
  );
  for (const [, value, description] of results) {
    file.print(`            ${value} => c"${description}",`);
  }
  file.print("            _ => return None,", "        })", "    }", "}", "");
  file.print(
    "impl std::fmt::Debug for CUresult {",
    "    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {",
    "        match self.name() {",
    "            Some(name) => formatter.write_str(&name.to_string_lossy()),",
    '            None => write!(formatter, "CUresult({})", self.0),',
    "        }",
    "    }",
    "}",
    "",
    "impl std::fmt::Display for CUresult {",
    "    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {",
    "        std::fmt::Debug::fmt(self, formatter)",
    "    }",
    "}",
    "",
  );
  for (const [name] of results) {
    file.print(`pub const ${name}: CUresult = CUresult::${shortName(name)};`);
  }
}

/** `CUDA_ERROR_NOT_READY` → `NOT_READY` */
function shortName(name: string): string {
  return name.replace(/^CUDA_(ERROR_)?/, "");
}

export function printHandle(file: RustFile, name: string): void {
  file.print(
    "",
    `/// An opaque \`${name}\`, the size of a pointer.`,
    "#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]",
    "#[repr(transparent)]",
    `pub struct ${name}(pub usize);`,
    "",
    `impl ${name} {`,
    "    pub const NULL: Self = Self(0);",
    "",
    "    pub fn is_null(self) -> bool {",
    "        self.0 == 0",
    "    }",
    "}",
    "",
  );
}

export function printEnum(file: RustFile, name: string, values: Values): void {
  file.print("", `pub type ${name} = ${enumRepresentation(name)};`);
  const representation = enumRepresentation(name);
  for (const [constant, value] of values) {
    const wraps = representation === "i32" && value > 0x7fff_ffff;
    file.print(`pub const ${constant}: ${name} = ${wraps ? value - 2 ** 32 : value};`);
  }
}

export function printStruct(file: RustFile, struct: Struct): void {
  file.print("", "#[derive(Debug, Clone, Copy)]", "#[repr(C)]", `pub struct ${struct.name} {`);
  for (const [name, type] of struct.fields) {
    file.print(`    pub ${fieldName(name)}: ${rustType(type)},`);
  }
  file.print("}", "", "const _: () = {");
  file.print(`    assert!(size_of::<${struct.name}>() == ${struct.size});`);
  file.print(`    assert!(align_of::<${struct.name}>() == ${struct.align});`);
  for (const [name, , offset] of struct.fields) {
    file.print(`    assert!(std::mem::offset_of!(${struct.name}, ${fieldName(name)}) == ${offset});`);
  }
  file.print("};");
}

function fieldName(name: string): string {
  return name === "type" || name === "fn" ? `r#${name}` : name;
}

/** native/cuda-abi/src/generated/signatures.rs: a function-pointer type for every symbol. */

import { rustType } from "../c-types.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Call } from "../../model.ts";
import type { Schema } from "../schema.ts";

export function emitAbiSignatures(schema: Schema): RustFile {
  const file = new RustFile("native/cuda-abi/src/generated/signatures.rs", {
    emitter: "abi-signatures.ts",
    doc: "The signature of every exported symbol.",
    allow: [...VENDOR_NAMES, "missing_docs"],
  });
  file.print("use std::ffi::{c_char, c_void};", "", "use super::types::*;", "");
  for (const { name, call } of schema.symbols) {
    file.print(`pub type PFN_${name} = unsafe extern "C" fn(${rustParameters(call)}) -> CUresult;`);
  }
  return file;
}

/** `dptr: *mut CUdeviceptr, bytesize: usize` */
export function rustParameters(call: Call): string {
  return call.parameters
    .map((parameter) => `${rustName(parameter.name)}: ${rustType(parameter.type)}`)
    .join(", ");
}

const KEYWORDS: ReadonlySet<string> = new Set(["type", "mod", "fn", "move", "ref", "in", "extern", "priv"]);

/** A parameter's own name, escaped where Rust uses the word. */
export function rustName(name: string): string {
  return KEYWORDS.has(name) ? `r#${name}` : name;
}

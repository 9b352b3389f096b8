/** The generated part of a libcuda of ours: variants, not-supported stubs, and the symbol table. */

import { functionPath, type Library, type Origin } from "../libraries.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema, Symbol } from "../schema.ts";
import { rustName, rustParameters } from "./abi-signatures.ts";

/** Every export has its contract in CUDA's documentation, not here. */
export const EXPORT_LINTS: readonly string[] = [
  ...VENDOR_NAMES,
  "missing_docs",
  "clippy::missing_safety_doc",
  "clippy::too_many_arguments",
];

export function emitLibrary(library: Library, schema: Schema): readonly RustFile[] {
  return [
    emitModule(library, schema),
    emitUnsupported(library, schema),
    emitVariants(library, schema),
    emitSymbols(library, schema),
    ...(library.hasSlots ? [emitSlots(library, schema)] : []),
  ];
}

function emitModule(library: Library, schema: Schema): RustFile {
  const file = new RustFile(`${library.folder}/src/generated/mod.rs`, {
    emitter: "library.ts",
    doc: "The generated part of this library.",
    allow: [],
  });
  const remoted = schema.symbols.some((symbol) => library.origin(symbol) === "remoted");
  const slots = library.hasSlots ? ["slots"] : [];
  for (const name of [...(remoted ? ["remoted"] : []), ...slots, "symbols", "unsupported", "variants"]) {
    file.print(`pub mod ${name};`);
  }
  return file;
}

function emitUnsupported(library: Library, schema: Schema): RustFile {
  const file = new RustFile(`${library.folder}/src/generated/unsupported.rs`, {
    emitter: "library.ts",
    doc: "Calls that this library has, but does not implement: they answer CUDA_ERROR_NOT_SUPPORTED and are\nreported once by name.",
    allow: [...EXPORT_LINTS, "unused_variables"],
  });
  file.print("use std::ffi::{c_char, c_void};", "", "use cuda_abi::*;");
  for (const symbol of symbolsOf(library, schema, "unsupported")) {
    printExport(file, { ...symbol, hasSlots: library.hasSlots }, [`crate::unsupported("${symbol.name}")`]);
  }
  return file;
}

function emitVariants(library: Library, schema: Schema): RustFile {
  const file = new RustFile(`${library.folder}/src/generated/variants.rs`, {
    emitter: "library.ts",
    doc: "Symbols that forward to another symbol: older names of the same call, and the per-thread forms, for\nwhich stream 0 is the calling thread's own stream.",
    allow: [...EXPORT_LINTS, "unused_imports"],
  });
  file.print(
    "use std::ffi::{c_char, c_void};",
    "",
    "use cuda_abi::*;",
    "",
    "fn per_thread(stream: CUstream) -> CUstream {",
    "    if stream.is_null() { CU_STREAM_PER_THREAD } else { stream }",
    "}",
  );
  for (const symbol of symbolsOf(library, schema, "variants")) {
    printExport(file, { ...symbol, hasSlots: library.hasSlots }, variantBody(library, schema, symbol));
  }
  return file;
}

function variantBody(library: Library, schema: Schema, { call, perThread }: Symbol): readonly string[] {
  const names = call.parameters.map((parameter) => rustName(parameter.name));
  const safety = "// SAFETY: the caller keeps the contract of this call, which the other one shares.";
  if (!perThread) {
    if (call.constant === true) {
      return ["CUresult::SUCCESS"];
    }
    return [safety, `unsafe { ${functionPath(library, schema, call.alias ?? "")}(${names.join(", ")}) }`];
  }
  if (call.perThread?.suffix === "ptds") {
    const target = functionPath(library, schema, call.perThread.streamForm ?? "");
    const forward = `unsafe { ${target}(${[...names, "CU_STREAM_PER_THREAD"].join(", ")}) }`;
    if (call.perThread.waits !== true) {
      return [safety, forward];
    }
    const wait = functionPath(library, schema, "cuStreamSynchronize");
    return [
      safety,
      `let code = ${forward};`,
      "if !code.is_success() {",
      "    return code;",
      "}",
      "// SAFETY: the stream is a constant.",
      `unsafe { ${wait}(CU_STREAM_PER_THREAD) }`,
    ];
  }
  const target = functionPath(library, schema, call.symbol);
  const config = call.parameters.find((parameter) => parameter.type === "const CUlaunchConfig *");
  if (config !== undefined) {
    const name = rustName(config.name);
    return [
      `if ${name}.is_null() {`,
      "    return CUresult::INVALID_VALUE;",
      "}",
      "// SAFETY: not null, and the caller passes a valid configuration.",
      `let mut copy = unsafe { *${name} };`,
      "copy.hStream = per_thread(copy.hStream);",
      `let ${name} = &raw const copy;`,
      safety,
      `unsafe { ${target}(${names.join(", ")}) }`,
    ];
  }
  const values = call.parameters.map((parameter) =>
    parameter.type === "CUstream" ? `per_thread(${rustName(parameter.name)})` : rustName(parameter.name),
  );
  return [safety, `unsafe { ${target}(${values.join(", ")}) }`];
}

function emitSymbols(library: Library, schema: Schema): RustFile {
  const file = new RustFile(`${library.folder}/src/generated/symbols.rs`, {
    emitter: "library.ts",
    doc: "The address of every exported symbol, for `cuGetProcAddress`, and a check at compile time that every\nhand-written export has the signature of the description.",
    allow: ["clippy::as_conversions"],
  });
  file.print(
    "use std::ffi::c_void;",
    "",
    "struct Address(*const c_void);",
    "",
    "// SAFETY: the address of a function is the same for every thread.",
    "unsafe impl Sync for Address {}",
    "",
    "/// The function behind an exported symbol.",
    "pub fn address_of(symbol: &str) -> Option<*const c_void> {",
    "    let index = SYMBOLS.binary_search_by(|(name, _)| (*name).cmp(symbol)).ok()?;",
    "    Some(SYMBOLS[index].1.0)",
    "}",
    "",
    `static SYMBOLS: [(&str, Address); ${schema.symbols.length}] = [`,
  );
  for (const { name } of schema.symbols) {
    const path = library.hasSlots ? `super::slots::${name}` : functionPath(library, schema, name);
    file.print(`("${name}", Address(${path} as *const c_void)),`);
  }
  file.print("];", "");
  for (const { name } of symbolsOf(library, schema, "exports")) {
    file.print(`const _: cuda_abi::PFN_${name} = crate::exports::${name};`);
  }
  file.print(
    "",
    "#[cfg(test)]",
    "mod tests {",
    "    use super::*;",
    "",
    "    #[test]",
    "    fn every_symbol_that_a_look_up_finds_has_an_address() {",
    "        assert!(SYMBOLS.is_sorted_by(|(a, _), (b, _)| a < b));",
    "        for symbol in cuda_abi::proc_address::symbols() {",
    '            assert!(address_of(symbol).is_some(), "{symbol} has no address");',
    "        }",
    '        assert!(address_of("cuNoSuchCall").is_none());',
    "    }",
    "}",
  );
  return file;
}

function emitSlots(library: Library, schema: Schema): RustFile {
  const file = new RustFile(`${library.folder}/src/generated/slots.rs`, {
    emitter: "library.ts",
    doc: SLOTS_DOC,
    allow: SLOT_LINTS,
  });
  printSlots(
    file,
    schema.symbols.map(({ name }) => ({ name, path: functionPath(library, schema, name) })),
  );
  return file;
}

export const SLOTS_DOC =
  "What is exported: each symbol jumps through a slot, which leads to this library's function, and in a process that\nuses the machine's own driver to the driver's.";

export const SLOT_LINTS: readonly string[] = [
  "non_snake_case",
  "missing_docs",
  "clippy::missing_safety_doc",
  "clippy::as_conversions",
];

/** The slots, their names, and the exported jumps; `path` is the function that a slot leads to at first. */
export function printSlots(
  file: RustFile,
  symbols: ReadonlyArray<{ readonly name: string; readonly path: string }>,
): void {
  file.print(
    "use std::arch::naked_asm;",
    "use std::ffi::{CStr, c_void};",
    "use std::sync::atomic::AtomicPtr;",
    "",
    "macro_rules! jumps {",
    "    ($($index:literal $name:ident)*) => {$(",
    "        #[unsafe(naked)]",
    "        #[unsafe(no_mangle)]",
    '        pub unsafe extern "C" fn $name() {',
    '            naked_asm!("jmp qword ptr [rip + {slots} + {offset}]", slots = sym SLOTS, offset = const 8 * $index)',
    "        }",
    "    )*};",
    "}",
    "",
    "/// Where the symbols lead to, in the order of `NAMES`.",
    `pub static SLOTS: [AtomicPtr<c_void>; ${symbols.length}] = [`,
  );
  for (const { path } of symbols) file.print(`AtomicPtr::new(${path} as *mut c_void),`);
  file.print("];", "", "/// The exported symbols.", `pub static NAMES: [&CStr; ${symbols.length}] = [`);
  for (const { name } of symbols) file.print(`c"${name}",`);
  file.print("];", "", "jumps! {");
  for (const [index, { name }] of symbols.entries()) file.print(`    ${index} ${name}`);
  file.print("}");
}

function symbolsOf(library: Library, schema: Schema, origin: Origin): readonly Symbol[] {
  return schema.symbols.filter((symbol) => library.origin(symbol) === origin);
}

/** One exported function. */
export function printExport(
  file: RustFile,
  { name, call, hasSlots }: Pick<Symbol, "name" | "call"> & Pick<Library, "hasSlots">,
  body: readonly string[],
): void {
  file.print(
    "",
    // Behind a slot it is the slot's jump that has the name.
    hasSlots ? `/// \`${name}\`.` : "#[unsafe(no_mangle)]",
    `pub unsafe extern "C" fn ${name}(${rustParameters(call)}) -> CUresult {`,
    ...body.map((line) => `    ${line}`),
    "}",
  );
}

/**
 * What a libnvidia-ml.so.1 of ours exports, behind slots: answered calls lead to native/nvml, the rest answers
 * NOT_SUPPORTED.
 */

import { rustType } from "../c-types.ts";
import type { NvmlSchema } from "../nvml-schema.ts";
import { RustFile } from "../rust-file.ts";
import { rustName } from "./abi-signatures.ts";
import { SLOT_LINTS, SLOTS_DOC, printSlots } from "./library.ts";
import { nvmlFile, nvmlParameters } from "./nvml-types.ts";

/** Not a part of native/nvml: each library compiles it, as each has symbols and a `crate::LIBRARY` of its own. */
const FOLDER = "native/nvml/exports";

export function emitNvmlLibrary(schema: NvmlSchema): readonly RustFile[] {
  return [emitModule(), emitExports(schema), emitUnsupported(schema), emitSlots(schema)];
}

function emitModule(): RustFile {
  const file = nvmlFile(FOLDER, "mod", "What each libnvidia-ml.so.1 of ours exports.");
  file.print("pub mod exports;", "pub mod slots;", "pub mod unsupported;");
  return file;
}

function emitExports({ calls }: NvmlSchema): RustFile {
  const file = nvmlFile(
    FOLDER,
    "exports",
    "Calls that are answered, and a check at compile time that each has the signature of the description.",
  );
  file.print("use std::ffi::{c_char, c_void};", "", "use nvml::*;");
  for (const call of calls) {
    const names = ["&crate::LIBRARY", ...call.parameters.map(({ name }) => rustName(name))];
    const target = `nvml::calls::${call.symbol}(${names.join(", ")})`;
    file.print(
      "",
      `/// \`${call.symbol}\`.`,
      `pub unsafe extern "C" fn ${call.symbol}(${nvmlParameters(call)}) -> ${rustType(call.result)} {`,
      ...(call.result === "nvmlReturn_t"
        ? [
            "    // SAFETY: the caller keeps the contract of this call, which the other one shares.",
            `    unsafe { ${target} }`,
          ]
        : [`    ${target}`]),
      "}",
    );
  }
  file.print("");
  for (const { symbol } of calls) file.print(`const _: PFN_${symbol} = ${symbol};`);
  return file;
}

function emitUnsupported({ unsupported }: NvmlSchema): RustFile {
  const file = nvmlFile(
    FOLDER,
    "unsupported",
    "Calls that NVML has, but this library does not: they answer NVML_ERROR_NOT_SUPPORTED whatever they are\ngiven, and are reported once by name.",
  );
  file.print("use nvml::nvmlReturn_t;");
  for (const symbol of unsupported) {
    file.print(
      "",
      `/// \`${symbol}\`.`,
      `pub extern "C" fn ${symbol}() -> nvmlReturn_t {`,
      `    crate::LIBRARY.unsupported("${symbol}")`,
      "}",
    );
  }
  return file;
}

function emitSlots({ calls, unsupported }: NvmlSchema): RustFile {
  const file = new RustFile(`${FOLDER}/slots.rs`, {
    emitter: "nvml-library.ts",
    doc: `${SLOTS_DOC} The simulated GPUs' library answers\nitself, always.`,
    // Only a library that can step aside reads the names.
    allow: [...SLOT_LINTS, "dead_code"],
    api: "nvml",
  });
  printSlots(file, [
    ...calls.map(({ symbol }) => ({ name: symbol, path: `super::exports::${symbol}` })),
    ...unsupported.map((symbol) => ({ name: symbol, path: `super::unsupported::${symbol}` })),
  ]);
  return file;
}

/** native/wire/examples/fuzz/calls.rs: every call, for the fuzzer. */

import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import { borrows, shapesOf } from "../shapes.ts";

export function emitWireCalls(schema: Schema): RustFile {
  const file = new RustFile("native/wire/examples/fuzz/calls.rs", {
    emitter: "wire-calls.ts",
    doc: "Every call that travels. The macro `call` says what is tried with one.",
    allow: [...VENDOR_NAMES],
  });
  file.print(
    "use wire::cuda::*;",
    "",
    "use super::Call;",
    "",
    "/// All of them.",
    "pub const CALLS: &[Call] = &[",
  );
  for (const shape of shapesOf(schema)) {
    file.print(`    call!(${shape.name}${borrows(shape.request) ? "<'_>" : ""}),`);
  }
  file.print("];");
  return file;
}

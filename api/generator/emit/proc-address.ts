/** native/cuda-abi/src/generated/proc_address.rs: what cuGetProcAddress looks a name up in. */

import { RustFile } from "../rust-file.ts";
import { perThreadSymbol, type Schema } from "../schema.ts";
import type { Call } from "../../model.ts";

export function emitProcAddress(schema: Schema): RustFile {
  const file = new RustFile("native/cuda-abi/src/generated/proc_address.rs", {
    emitter: "proc-address.ts",
    doc: "Base name × CUDA version × per-thread flag → exported symbol, as `cuGetProcAddress` chooses.",
    allow: [],
  });
  file.print(
    "use crate::proc_address::{Entry, PerThread, Variant};",
    "",
    "/// Sorted by name; the variants of a name by the version they begin with.",
    "pub(crate) static ENTRIES: &[Entry] = &[",
  );
  for (const [base, calls] of byBase(schema)) {
    file.print(`Entry { name: "${base}", variants: &[`);
    for (const call of calls) {
      const perThread =
        call.perThread === undefined
          ? "None"
          : `Some(PerThread { since: ${call.perThread.since}, symbol: "${perThreadSymbol(call)}" })`;
      file.print(`Variant { since: ${call.since}, symbol: "${call.symbol}", per_thread: ${perThread} },`);
    }
    file.print("] },");
  }
  file.print("];");
  return file;
}

function byBase(schema: Schema): readonly (readonly [string, readonly Call[]])[] {
  const groups = Map.groupBy(schema.calls, (call) => call.base);
  return [...groups]
    .map(([base, calls]) => [base, calls.toSorted((a, b) => a.since - b.since)] as const)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
}

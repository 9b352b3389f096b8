/** Every output of the generator. */

import type { Output } from "../rustfmt.ts";
import { shimLibrary, simgpuLibrary } from "../libraries.ts";
import type { Schema } from "../schema.ts";
import { emitAbiSignatures } from "./abi-signatures.ts";
import { emitAbiTypes } from "./abi-types.ts";
import { emitLibrary } from "./library.ts";
import { emitProcAddress } from "./proc-address.ts";
import { emitWire } from "./wire.ts";
import { emitWireTests } from "./wire-tests.ts";

export function emitAll(schema: Schema, root: string): readonly Output[] {
  const rust = [
    emitAbiTypes(),
    emitAbiSignatures(schema),
    emitProcAddress(schema),
    emitWire(schema),
    emitWireTests(schema),
    ...emitLibrary(simgpuLibrary(schema, root), schema),
    ...emitLibrary(shimLibrary(schema), schema),
  ];
  return rust.map((file) => ({ path: file.path, text: file.text() }));
}

/** Every output of the generator. */

import type { Output } from "../rustfmt.ts";
import type { Schema } from "../schema.ts";
import { emitAbiSignatures } from "./abi-signatures.ts";
import { emitAbiTypes } from "./abi-types.ts";
import { emitProcAddress } from "./proc-address.ts";

export function emitAll(schema: Schema, root: string): readonly Output[] {
  void root;
  const rust = [emitAbiTypes(), emitAbiSignatures(schema), emitProcAddress(schema)];
  return rust.map((file) => ({ path: file.path, text: file.text() }));
}

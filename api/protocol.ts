/** Calls of our own that travel between client and worker beside CUDA's. Ids below 16 are the wire's own records. */

import type { Fields } from "./model.ts";

export interface ProtocolCall {
  readonly name: string;
  readonly id: number;
  readonly request: Fields;
  readonly reply?: Fields;
}

/** Small structures that requests and replies hold lists of. */
export const records: Readonly<Record<string, { readonly doc: string; readonly fields: Fields }>> = {
  AttributeValue: {
    doc: "One attribute of a function.",
    fields: { attribute: "i32", value: "i32" },
  },
  LaunchAttribute: {
    doc: "One attribute of a launch; the value is CUDA's 64-byte union.",
    fields: { id: "i32", value: "[u64; 8]" },
  },
  OptionValue: {
    doc: "One option of a module or library load.",
    fields: { option: "i32", value: "u64" },
  },
  ParameterInfo: {
    doc: "Where one kernel parameter lies in the parameter buffer.",
    fields: { offset: "u64", size: "u64" },
  },
};

export const protocolCalls: readonly ProtocolCall[] = [
  // An image larger than a record is sent in pieces before the load that names its blob.
  { name: "farpoolStage", id: 0x0010, request: { blob: "u64", data: "bytes" } },
];

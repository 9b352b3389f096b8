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
  // A host function: the stream waits until the client says that it has run.
  { name: "farpoolHostFunction", id: 0x0011, request: { stream: "Stream", token: "u64" } },
  // A copy to the device whose bytes the client sends when the stream has reached it.
  {
    name: "farpoolPullToDevice",
    id: 0x0012,
    request: { destination: "u64", size: "u64", stream: "Stream", token: "u64" },
  },
  // A notice with this number comes back when everything that was queued before is done, in all contexts.
  { name: "farpoolFence", id: 0x0020, request: { number: "u64" } },
  // The client has done what a callback asked for; pulls carry their bytes.
  { name: "farpoolCallbackDone", id: 0x0013, request: { token: "u64", data: "bytes" } },
  // The pool that a program knows as a device's default pool.
  { name: "farpoolDefaultPool", id: 0x0014, request: { pool: "new MemoryPool", device: "i32" } },
];

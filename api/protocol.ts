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
  BlockOccupancy: {
    doc: "How many blocks of a size fit on a multiprocessor.",
    fields: { threads: "i32", blocks: "i32" },
  },
  GraphEdge: {
    doc: "A node of a graph that another one waits for.",
    fields: { from: "u32" },
  },
  GraphEvent: {
    doc: "An event that a graph records or waits for.",
    fields: { event: "u64" },
  },
  GraphSlot: {
    doc: "Bytes of the worker's memory that stand for the client's while a graph runs.",
    fields: { size: "u64" },
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
  // Blocks of a function that fit on a multiprocessor, for one block size and for the usual ones: programs try them all.
  {
    name: "farpoolOccupancy",
    id: 0x0021,
    request: { function: "u64", threads: "i32", dynamicShared: "u64", flags: "u32" },
    reply: { blocks: "i32", others: "list BlockOccupancy" },
  },
  // A notice with this number comes back when everything is done that was queued before in a context (kind 0), or on one
  // stream of it (kind 1; 0 is the legacy one), or in the context and what it frees is free (kind 2).
  {
    name: "farpoolFence",
    id: 0x0020,
    request: { number: "u64", context: "u32", kind: "u32", stream: "u64" },
  },
  // Another place for the window of addresses, where the one in the hello was refused; lengths are 0 for none.
  {
    name: "farpoolWindow",
    id: 0x0022,
    request: { start: "u64", length: "u64" },
    reply: { start: "u64", length: "u64", granularity: "u64" },
  },
  // Memory for addresses of the window, in pieces of `chunk` bytes: `wanted` bytes, or less, but not less than `needed`.
  {
    name: "farpoolSecure",
    id: 0x0023,
    request: { address: "u64", needed: "u64", wanted: "u64", chunk: "u64" },
    reply: { size: "u64" },
  },
  // Gives whole pieces back, when everything that was queued before in a context is done; 0 is for what nobody uses any more.
  { name: "farpoolGiveBack", id: 0x0024, request: { address: "u64", size: "u64", context: "u32" } },
  // The client has done what a callback asked for; pulls carry their bytes.
  { name: "farpoolCallbackDone", id: 0x0013, request: { token: "u64", data: "bytes" } },
  // The pool that a program knows as a device's default pool.
  { name: "farpoolDefaultPool", id: 0x0014, request: { pool: "new MemoryPool", device: "i32" } },
  // Graphs are built in the client; an instantiation sends this, then the nodes in order, then asks for the graph.
  { name: "farpoolGraphBegin", id: 0x0015, request: { graph: "u64", slots: "list GraphSlot" } },
  {
    name: "farpoolGraphNode",
    id: 0x0016,
    request: {
      graph: "u64",
      context: "u32",
      kind: "u32",
      target: "u64",
      numbers: "[u64; 16]",
      after: "list GraphEdge",
      attributes: "list LaunchAttribute",
      data: "rest",
    },
  },
  // Other parameters for a node of an executable graph.
  {
    name: "farpoolGraphNodeSet",
    id: 0x0017,
    request: {
      exec: "GraphExec",
      node: "u32",
      context: "u32",
      kind: "u32",
      target: "u64",
      numbers: "[u64; 16]",
      attributes: "list LaunchAttribute",
      data: "rest",
    },
  },
  // What a launch needs of the client's memory and functions comes before it, under the launch's number.
  {
    name: "farpoolGraphInput",
    id: 0x0018,
    request: { launch: "u64", slot: "u32", offset: "u64", data: "bytes" },
  },
  {
    name: "farpoolGraphPull",
    id: 0x0019,
    request: { launch: "u64", slot: "u32", offset: "u64", token: "u64" },
  },
  { name: "farpoolGraphCall", id: 0x001a, request: { launch: "u64", slot: "u32", token: "u64" } },
  {
    name: "farpoolGraphOutput",
    id: 0x001b,
    request: { launch: "u64", slot: "u32", offset: "u64", size: "u64" },
    reply: { data: "rest" },
  },
  // The client wants to be told, without asking again, when the stream has finished its work up to a record.
  // The stream goes no further until the client says so: records on it wait in the worker, and no thread of the driver does.
  { name: "farpoolHold", id: 0x0031, request: { stream: "Stream", token: "u64" } },
  { name: "farpoolRelease", id: 0x0032, request: { token: "u64" } },
  { name: "farpoolWatch", id: 0x0030, request: { stream: "Stream", number: "u64" } },
];

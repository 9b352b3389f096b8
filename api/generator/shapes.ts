/**
 * What travels for a call: derived from the parameters for `async` and `sync` calls, declared for `manual` ones.
 * Derived fields keep the parameters' names.
 */

import { handles } from "../cuda/types.ts";
import { records } from "../protocol.ts";
import type { Call, Fields, Parameter } from "../model.ts";
import { isPointer, pointee, rustType } from "./c-types.ts";
import type { Schema } from "./schema.ts";
import { rustName } from "./emit/abi-signatures.ts";

export interface Field {
  readonly name: string;
  /** As in the description: `u64`, `Stream`, `bytes`, `list OptionValue`, … */
  readonly type: string;
}

export interface Shape {
  /** Name on the wire and in Rust: the symbol in capital letters' style. */
  readonly name: string;
  readonly symbol: string;
  readonly id: number;
  readonly request: readonly Field[];
  /** Empty when nothing but the code comes back. */
  readonly reply: readonly Field[];
}

/** Every shape, by id. */
export function shapesOf(schema: Schema): readonly Shape[] {
  const shapes: Shape[] = schema.protocolCalls.map((call) => ({
    name: capitalised(call.name),
    symbol: call.name,
    id: call.id,
    request: declared(call.request),
    reply: declared(call.reply ?? {}),
  }));
  for (const call of schema.calls) {
    const shape = shapeOf(call);
    if (shape !== undefined) {
      shapes.push(shape);
    }
  }
  return shapes.toSorted((a, b) => a.id - b.id);
}

export function shapeOf(call: Call): Shape | undefined {
  if (call.alias !== undefined) {
    return undefined;
  }
  const head = { name: capitalised(call.symbol), symbol: call.symbol, id: call.id };
  if (call.class === "manual") {
    return (
      call.wire && { ...head, request: declared(call.wire.request), reply: declared(call.wire.reply ?? {}) }
    );
  }
  if (call.class !== "async" && call.class !== "sync") {
    return undefined;
  }
  const isReply = (parameter: Parameter): boolean => parameter.direction === "out";
  return {
    ...head,
    request: call.parameters
      .filter((parameter) => !isReply(parameter))
      .map((parameter) => derived(call, parameter)),
    reply: call.parameters.filter(isReply).map((parameter) => derived(call, parameter)),
  };
}

/** Whether Rust needs a lifetime for what the record borrows. */
export function borrows(fields: readonly Field[]): boolean {
  return fields.some((field) => field.type === "bytes" || field.type === "rest");
}

/** Calls that name a stream without putting work on it. */
const NO_WORK: ReadonlySet<string> = new Set([
  "cuStreamCopyAttributes",
  "cuStreamDestroy_v2",
  "cuStreamQuery",
  "cuStreamSynchronize",
  "farpoolWatch",
]);

/** Calls that work on the legacy stream without naming it. */
const ON_LEGACY_STREAM: ReadonlySet<string> = new Set([
  "cuMemcpyHtoD_v2",
  "cuMemcpyDtoH_v2",
  "cuMemcpyDtoD_v2",
  "cuMemcpyPeer",
  "cuMemsetD8_v2",
  "cuMemsetD16_v2",
  "cuMemsetD32_v2",
  "cuMemsetD2D8_v2",
  "cuMemsetD2D16_v2",
  "cuMemsetD2D32_v2",
]);

/** The field that names the stream on which the call puts work. */
export function worksOnStream(shape: Shape): string | undefined {
  return NO_WORK.has(shape.symbol) ? undefined : namesStream(shape);
}

/** The field that names a stream, whether or not the call puts work on it. */
export function namesStream(shape: Shape): string | undefined {
  return shape.request.find((field) => field.type === "Stream")?.name;
}

export function worksOnLegacyStream(shape: Shape): boolean {
  return ON_LEGACY_STREAM.has(shape.symbol);
}

export function handleKind(type: string): string | undefined {
  return handles[type] ?? undefined;
}

function derived(call: Call, parameter: Parameter): Field {
  const name = rustName(parameter.name);
  const type = isPointer(parameter.type) ? pointee(parameter.type) : parameter.type;
  if (isPointer(type) || (parameter.direction === "in" && isPointer(parameter.type))) {
    throw new Error(`${call.symbol}.${parameter.name} is a pointer that no ${call.class} call can send`);
  }
  const kind = handleKind(type);
  if (kind === undefined) {
    return { name, type: wireScalar(type) };
  }
  if (kind === "Function") {
    // Programs pass kernels as functions; the worker tells them apart by the number.
    return { name, type: "u64" };
  }
  return { name, type: parameter.direction === "create" ? `new ${kind}` : kind };
}

/** The Rust number that a C scalar travels as. */
function wireScalar(type: string): string {
  const rust = rustType(type);
  if (rust === "usize" || type === "CUdeviceptr") {
    return "u64";
  }
  if (/^[uif]\d+$/.test(rust)) {
    return rust;
  }
  if (type === "CUdevice" || (type.startsWith("CU") && !type.endsWith("*"))) {
    return type.endsWith("_flags") ? "u32" : "i32";
  }
  throw new Error(`${type} does not travel as a number`);
}

const PLAIN = /^(u8|u16|u32|u64|i32|i64|f32|f64|bytes|rest|\[u64; \d+\])$/;

function declared(fields: Fields): readonly Field[] {
  return Object.entries(fields).map(([name, type]) => {
    const kinds = new Set(Object.values(handles));
    const known =
      PLAIN.test(type) ||
      kinds.has(type.replace(/^new /, "")) ||
      (type.startsWith("list ") && records[type.slice(5)] !== undefined);
    if (!known) {
      throw new Error(`field ${name} has the unknown type "${type}"`);
    }
    return { name: rustName(snakeCase(name)), type };
  });
}

export function recordFields(name: string): readonly Field[] {
  const record = records[name];
  if (record === undefined) {
    throw new Error(`no record is called ${name}`);
  }
  return declared(record.fields);
}

/** `cuMemAlloc_v2` → `CuMemAllocV2` */
function capitalised(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1).replace(/_v(\d+)$/, "V$1");
}

function snakeCase(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

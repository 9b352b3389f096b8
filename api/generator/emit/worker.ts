/** native/worker/src/generated/dispatch.rs: from a record to the driver's call and back. */

import type { Call, Parameter } from "../../model.ts";
import { pointee, rustType } from "../c-types.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import { borrows, handleKind, shapesOf, worksOnLegacyStream, type Shape } from "../shapes.ts";
import { rustName } from "./abi-signatures.ts";

export function emitWorker(schema: Schema): RustFile {
  const file = new RustFile("native/worker/src/generated/dispatch.rs", {
    emitter: "worker.ts",
    doc: "Decodes a request, finds the driver's objects behind its handles, makes the call, encodes the reply.\nManual calls go to `crate::manual`. A handle that does not exist ends the connection; one whose creation\nfailed answers the code of that failure.",
    allow: [...VENDOR_NAMES, "clippy::unnecessary_wraps", "clippy::too_many_lines"],
  });
  file.print(
    "use cuda_abi::*;",
    "use wire::cuda;",
    "use wire::handle::{self, Handle};",
    "use wire::{CallId, Reader, Reply, Request, WireError, Writer};",
    "",
    "use crate::handles::HandleError;",
    "use crate::worker::{Worker, address};",
    "",
  );
  const shapes = shapesOf(schema);
  file.print(
    "/// Executes the call of one record.",
    "pub fn dispatch(worker: &mut Worker, call: CallId, reader: &mut Reader<'_>, writer: &mut Writer<'_>)",
    "-> Result<CUresult, WireError> {",
    "    match call {",
  );
  for (const shape of shapes) {
    const runner = byHand(schema, shape)
      ? `by_hand::<cuda::${shape.name}${borrows(shape.request) ? "<'_>" : ""}>(worker, reader, writer, crate::manual::${shape.symbol})`
      : `execute(worker, reader, writer, ${shape.symbol})`;
    file.print(`        cuda::${shape.name}::CALL => ${runner},`);
  }
  file.print("        _ => Err(WireError::UnknownCall { call }),", "    }", "}");
  printRunners(file);
  for (const shape of shapes) {
    if (!byHand(schema, shape)) {
      printCall(file, schema.call(shape.symbol), shape);
    }
  }
  return file;
}

/** native/worker/src/generated/mod.rs */
export function emitWorkerModule(): RustFile {
  const file = new RustFile("native/worker/src/generated/mod.rs", {
    emitter: "worker.ts",
    doc: "The generated part of the worker.",
    allow: [],
  });
  file.print("pub mod dispatch;", "pub mod touched;");
  return file;
}

/** native/worker/src/generated/touched.rs: which streams and events a record names. */
export function emitTouched(schema: Schema): RustFile {
  const file = new RustFile("native/worker/src/generated/touched.rs", {
    emitter: "worker.ts",
    doc: "Which streams and events a record names, without executing it. Calls that are not listed name none.",
    allow: [...VENDOR_NAMES, "clippy::too_many_lines"],
  });
  file.print(
    "use wire::cuda;",
    "use wire::handle::{Event, Stream};",
    "use wire::{CallId, Reader, Request};",
    "",
    "/// The streams and events that a record of `call` names; new ones are not among them.",
    "pub fn touched(call: CallId, payload: &[u8]) -> (Vec<Stream>, Vec<Event>) {",
    "    let mut reader = Reader::new(payload);",
    "    match call {",
  );
  for (const shape of shapesOf(schema)) {
    const of = (type: string): string =>
      shape.request
        .filter((field) => field.type === type)
        .map((field) => `request.${field.name}`)
        .join(", ");
    const [streams, events] = [of("Stream"), of("Event")];
    if (streams === "" && events === "") continue;
    const name = `cuda::${shape.name}${borrows(shape.request) ? "::<'_>" : ""}`;
    file.print(
      `        cuda::${shape.name}::CALL => {`,
      `            let request = ${name}::decode(&mut reader);`,
      `            (vec![${streams}], vec![${events}])`,
      "        }",
    );
  }
  file.print("        _ => (Vec::new(), Vec::new()),", "    }", "}");
  const legacy = shapesOf(schema).filter(worksOnLegacyStream);
  file.print(
    "",
    "/// Calls that work on the legacy stream without naming it.",
    "pub fn is_on_legacy_stream(call: CallId) -> bool {",
    "    matches!(call,",
    legacy.map((shape) => `        cuda::${shape.name}::CALL`).join(" |\n"),
    "    )",
    "}",
  );
  return file;
}

function byHand(schema: Schema, shape: Shape): boolean {
  return (
    schema.protocolCalls.some(({ name }) => name === shape.symbol) ||
    schema.call(shape.symbol).class === "manual"
  );
}

function printRunners(file: RustFile): void {
  file.print(
    "",
    "/// Runs a generated call; the reply is encoded also for a failed one, with what it has.",
    "fn execute<'a, Q>(worker: &mut Worker, reader: &mut Reader<'a>, writer: &mut Writer<'_>,",
    "    body: impl FnOnce(&mut Worker, &Q, &mut Q::Reply) -> Result<CUresult, HandleError>)",
    "-> Result<CUresult, WireError> where Q: Request<'a>, Q::Reply: Default {",
    "    let request = decode::<Q>(reader)?;",
    "    if !worker.has_room(Q::CALL, request.stream()) { return Ok(CUresult::SUCCESS) }",
    "    let mut reply = Q::Reply::default();",
    "    let code = body(worker, &request, &mut reply).or_else(code_of_poison)?;",
    "    worker.note_work(Q::CALL, request.stream());",
    "    reply.encode(writer);",
    "    Ok(code)",
    "}",
    "",
    "/// Runs a hand-written call, which encodes its own reply when it answers `Ok`.",
    "fn by_hand<'a, Q>(worker: &mut Worker, reader: &mut Reader<'a>, writer: &mut Writer<'_>,",
    "    body: impl FnOnce(&mut Worker, Q, &mut Writer<'_>) -> Result<CUresult, HandleError>)",
    "-> Result<CUresult, WireError> where Q: Request<'a>, Q::Reply: Default {",
    "    let request = decode::<Q>(reader)?;",
    "    let stream = request.stream();",
    "    if !worker.has_room(Q::CALL, stream) { return Ok(CUresult::SUCCESS) }",
    "    match body(worker, request, writer) {",
    "        Ok(code) => {",
    "            worker.note_work(Q::CALL, stream);",
    "            Ok(code)",
    "        }",
    "        Err(error) => {",
    "            let code = code_of_poison(error)?;",
    "            Q::Reply::default().encode(writer);",
    "            Ok(code)",
    "        }",
    "    }",
    "}",
    "",
    "fn decode<'a, Q: Request<'a>>(reader: &mut Reader<'a>) -> Result<Q, WireError> {",
    "    let request = Q::decode(reader);",
    "    reader.clone().finish(Q::CALL)?;",
    "    Ok(request)",
    "}",
    "",
    "fn code_of_poison(error: HandleError) -> Result<CUresult, WireError> {",
    "    match error {",
    "        HandleError::Poisoned(code) => Ok(code),",
    "        HandleError::Wire(error) => Err(error),",
    "    }",
    "}",
    "",
    "/// The driver's object behind a live handle.",
    "fn live<H: Handle>(worker: &Worker, call: CallId, handle: H) -> Result<usize, HandleError> {",
    "    worker.handles.get(call, handle).map(address)",
    "}",
    "",
    "/// The driver's object behind a live handle; null stays null (the legacy stream, the current context).",
    "fn live_or_null<H: Handle>(worker: &Worker, call: CallId, handle: H) -> Result<usize, HandleError> {",
    "    if handle.raw() == 0 { Ok(0) } else { live(worker, call, handle) }",
    "}",
    "",
    "/// A function, or a kernel in its place, as CUDA allows.",
    "fn callable(worker: &Worker, call: CallId, raw: u64) -> Result<usize, HandleError> {",
    "    let kernel = handle::Kernel::from_raw(raw);",
    "    if kernel.has_kind() { live(worker, call, kernel) } else { live(worker, call, handle::Function::from_raw(raw)) }",
    "}",
  );
}

function printCall(file: RustFile, call: Call, shape: Shape): void {
  const created = call.parameters.find((parameter) => parameter.direction === "create");
  const destroyed = call.parameters.find((parameter) => parameter.direction === "destroy");
  const outs = call.parameters.filter((parameter) => parameter.direction === "out");
  const request = shape.request.length === 0 ? "_request" : "request";
  const reply = shape.reply.length === 0 ? "_reply: &mut ()" : `reply: &mut cuda::${shape.name}Reply`;
  file.print(
    "",
    `fn ${call.symbol}(worker: &mut Worker, ${request}: &cuda::${shape.name}, ${reply}) -> Result<CUresult, HandleError> {`,
  );
  const lookups = call.parameters
    .map((parameter) => lookup(parameter, shape))
    .filter((line) => line !== undefined);
  if (created !== undefined) {
    file.print(
      `worker.handles.check_free(cuda::${shape.name}::CALL, request.${rustName(created.name)}).map_err(HandleError::Wire)?;`,
    );
  }
  file.print(...lookups);
  for (const parameter of [...(created === undefined ? [] : [created]), ...outs]) {
    file.print(
      `let mut ${rustName(parameter.name)}: ${rustType(pointee(parameter.type))} = Default::default();`,
    );
  }
  const values = call.parameters.map(passed).join(", ");
  const isLast = created === undefined && destroyed === undefined && outs.length === 0;
  file.print(
    "// SAFETY: pointers are to locals, handles to live objects of this driver; other values it checks itself.",
  );
  if (isLast) {
    file.print(`Ok(unsafe { worker.driver.${call.symbol}(${values}) })`, "}");
    return;
  }
  file.print(`let code = unsafe { worker.driver.${call.symbol}(${values}) };`);
  if (created !== undefined) {
    const name = rustName(created.name);
    file.print(`let created = if code.is_success() { Ok(${name}.0 as u64) } else { Err(code) };`);
    file.print(`worker.handles.put(request.${name}, created);`);
  }
  if (destroyed !== undefined) {
    file.print(`worker.handles.remove(request.${rustName(destroyed.name)});`);
  }
  for (const parameter of outs) {
    const name = rustName(parameter.name);
    const isSize = rustType(pointee(parameter.type)) === "usize";
    file.print(`reply.${name} = ${isSize ? `${name} as u64` : name};`);
  }
  file.print("Ok(code)", "}");
}

/** Finds the object behind a handle, or narrows a size. */
function lookup(parameter: Parameter, shape: Shape): string | undefined {
  const name = rustName(parameter.name);
  const call = `cuda::${shape.name}::CALL`;
  if (parameter.direction === "out" || parameter.direction === "create") {
    return undefined;
  }
  const kind = handleKind(parameter.type);
  if (kind === "Function") {
    return `let ${name} = ${parameter.type}(callable(worker, ${call}, request.${name})?);`;
  }
  if (kind !== undefined) {
    const find = parameter.nullable === true ? "live_or_null" : "live";
    return `let ${name} = ${parameter.type}(${find}(worker, ${call}, request.${name})?);`;
  }
  return rustType(parameter.type) === "usize" ? `let ${name} = address(request.${name});` : undefined;
}

function passed(parameter: Parameter): string {
  const name = rustName(parameter.name);
  if (parameter.direction === "out" || parameter.direction === "create") {
    return `&raw mut ${name}`;
  }
  const isLocal = handleKind(parameter.type) !== undefined || rustType(parameter.type) === "usize";
  return isLocal ? name : `request.${name}`;
}

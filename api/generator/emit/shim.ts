/** native/shim-cuda/src/generated/remoted.rs: the stubs of `async` and `sync` calls in the client process. */

import type { Call, Parameter } from "../../model.ts";
import { pointee, rustType } from "../c-types.ts";
import { shimLibrary } from "../libraries.ts";
import { RustFile } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import { handleKind, shapeOf } from "../shapes.ts";
import { rustName } from "./abi-signatures.ts";
import { EXPORT_LINTS, printExport } from "./library.ts";

export function emitShim(schema: Schema): RustFile {
  const file = new RustFile("native/shim-cuda/src/generated/remoted.rs", {
    emitter: "shim.ts",
    doc: "Calls that are sent to the worker as they are. Async ones return at once, and their error comes with a\nlater call that waits; sync ones wait for the answer.",
    allow: EXPORT_LINTS,
  });
  file.print(
    "use cuda_abi::*;",
    "use wire::cuda;",
    "use wire::handle::{self, Handle};",
    "",
    "use crate::client::Client;",
    "use crate::convert::{self, opaque, out, write_if};",
    "use crate::entry::{Answer, enter, enter_unless};",
    "use crate::servers::{self, named};",
    "use crate::{elsewhere, hooks, queries};",
    "",
    "/// What a program passed as a function: a live function, or a kernel.",
    "fn callable(client: &Client, function: CUfunction) -> Answer<u64> {",
    "    let raw = function.0 as u64;",
    "    let kernel = handle::Kernel::from_raw(raw);",
    "    if kernel.has_kind() {",
    "        hooks::known(client, kernel)?;",
    "    } else {",
    "        live(client, function)?;",
    "    }",
    "    Ok(raw)",
    "}",
    "",
    "/// The session's number for a device of this program.",
    "fn device(client: &Client, device: CUdevice) -> Answer<i32> {",
    "    Ok(client.devices.get(device)?.session_ordinal)",
    "}",
    "",
    "/// A live handle.",
    "fn live<T: convert::Opaque>(client: &Client, opaque: T) -> Answer<T::Handle> {",
    "    hooks::known(client, convert::handle(opaque)?)",
    "}",
    "",
    "/// A live handle, or null.",
    "fn live_or_null<T: convert::Opaque>(client: &Client, opaque: T) -> Answer<T::Handle> {",
    "    if opaque.bits() == 0 { Ok(T::Handle::from_raw(0)) } else { live(client, opaque) }",
    "}",
  );
  const library = shimLibrary(schema);
  for (const symbol of schema.symbols) {
    if (library.origin(symbol) === "remoted") {
      printExport(file, { ...symbol, hasSlots: library.hasSlots }, stub(symbol.call));
    }
  }
  return file;
}

function stub(call: Call): readonly string[] {
  const shape = shapeOf(call);
  if (shape === undefined) {
    throw new Error(`${call.symbol} has no shape to send`);
  }
  const outs = call.parameters.filter((parameter) => parameter.direction === "out");
  const created = call.parameters.find((parameter) => parameter.direction === "create");
  const lines: string[] = [];
  if (call.class === "async") {
    lines.push("client.contexts.current()?;");
  }
  for (const parameter of call.parameters) {
    const line = prepare(parameter, call);
    if (line !== undefined) {
      lines.push(...line);
    }
  }
  if (call.refused !== undefined) {
    lines.push(`crate::capture::${call.refused}?;`);
  }
  if (call.check !== undefined) {
    lines.push(`hooks::${call.check}?;`);
  }
  if (call.captured !== undefined) {
    lines.push(`if crate::capture::${call.captured}? { return Ok(()); }`);
  }
  if (call.known !== undefined) {
    lines.push(`if let Some(answer) = queries::${call.known} {`, "    return answer;", "}");
  }
  if (created !== undefined) {
    lines.push(`let created: handle::${handleKind(pointee(created.type))} = client.new_handle();`);
  }
  const fields = shape.request.map(({ name }) => {
    const parameter = call.parameters.find((candidate) => rustName(candidate.name) === name);
    const value = parameter === undefined ? name : sent(parameter);
    return value === name ? name : `${name}: ${value}`;
  });
  const request =
    fields.length === 0 ? `cuda::${shape.name}` : `cuda::${shape.name} { ${fields.join(", ")} }`;
  const verb = call.class === "async" ? "post" : call.remembered === true ? "call_once" : "call";
  const isLast =
    outs.length === 0 && created === undefined && call.hook === undefined && call.forgets === undefined;
  if (isLast) {
    lines.push(`client.${verb}(&${request})`);
  } else {
    const reply = outs.length > 0 ? "let reply = " : "";
    lines.push(`${reply}client.${verb}(&${request})?;`);
    if (call.forgets === true) {
      lines.push("client.remembered.forget();");
    }
    if (call.hook !== undefined) {
      lines.push(hookCall(call, call.hook));
    }
    if (created !== undefined) {
      lines.push(`*${rustName(created.name)} = opaque(created);`);
    }
    lines.push(...outs.map(answer), "Ok(())");
  }
  const client = lines.some((line) => line.includes("client")) ? "client" : "_client";
  const { symbol, elsewhere } = call;
  const entry =
    elsewhere === undefined
      ? `enter("${symbol}", ${naming(call)}`
      : `enter_unless("${symbol}", ${naming(call)}, || elsewhere::${elsewhere}`;
  return [`${entry}, |${client}| {`, ...lines, "})"];
}

/** What tells the server that a call is for: a device, a handle, or device memory. */
function naming(call: Call): string {
  const given = call.parameters.filter(({ direction }) => direction === "in" || direction === "destroy");
  const names = given.flatMap(({ name, type }) => {
    if (type === "CUdevice") return [`servers::Device(${rustName(name)})`];
    return handleKind(type) !== undefined || type === "CUdeviceptr" ? [rustName(name)] : [];
  });
  return names.length === 0 ? "servers::none" : `named!(${names.join(", ")})`;
}

/** Checks a parameter before anything is sent. */
function prepare(parameter: Parameter, call: Call): readonly string[] | undefined {
  const name = rustName(parameter.name);
  const safety = "// SAFETY: null or writable, as CUDA's interface demands.";
  if (parameter.direction === "create" || parameter.direction === "out") {
    return parameter.nullable === true ? undefined : [safety, `let ${name} = unsafe { out(${name}) }?;`];
  }
  if (parameter.type === "CUstream") {
    const knowsCaptures = call.captured !== undefined || call.refused !== undefined;
    const resolved =
      parameter.direction === "destroy"
        ? `live(client, ${name})?`
        : `crate::stream::${knowsCaptures ? "find" : "resolve"}(client, ${name}.0 as u64)?`;
    return [`let ${name} = ${resolved};`];
  }
  if (parameter.type === "CUdevice") {
    return [`let ${name} = device(client, ${name})?;`];
  }
  const kind = handleKind(parameter.type);
  if (kind === undefined) {
    return undefined;
  }
  if (kind === "Function") {
    return [`let ${name} = callable(client, ${name})?;`];
  }
  return [`let ${name} = ${parameter.nullable === true ? "live_or_null" : "live"}(client, ${name})?;`];
}

function sent(parameter: Parameter): string {
  if (parameter.direction === "create") {
    return "created";
  }
  const name = rustName(parameter.name);
  return rustType(parameter.type) === "usize" ? `${name} as u64` : name;
}

function answer(parameter: Parameter): string {
  const name = rustName(parameter.name);
  const isSize = rustType(pointee(parameter.type)) === "usize";
  const value = isSize ? `usize::try_from(reply.${name}).unwrap_or(usize::MAX)` : `reply.${name}`;
  return parameter.nullable === true
    ? `// SAFETY: null or writable, as CUDA's interface demands.\nunsafe { write_if(${name}, ${value}) };`
    : `*${name} = ${value};`;
}

/** The hook gets the client, the new handle if there is one, and every input. */
function hookCall(call: Call, hook: string): string {
  const values = call.parameters
    .filter((parameter) => parameter.direction !== "out")
    .map((parameter) => (parameter.direction === "create" ? "created" : rustName(parameter.name)));
  return `hooks::${hook}(${["client", ...values].join(", ")});`;
}

/** native/wire/src/generated/cuda.rs: request and reply structs of every call that travels. */

import { records } from "../../protocol.ts";
import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import {
  borrows,
  namesStream,
  recordFields,
  shapesOf,
  worksOnLegacyStream,
  worksOnStream,
  type Field,
  type Shape,
} from "../shapes.ts";

export function emitWire(schema: Schema): RustFile {
  const file = new RustFile("native/wire/src/generated/cuda.rs", {
    emitter: "wire.ts",
    doc: "What travels for each remoted CUDA call. Values follow each other in the order of the fields, without\npadding; device addresses and sizes are u64, handles are the client's numbers, 0 is null.",
    allow: [...VENDOR_NAMES, "missing_docs"],
  });
  const shapes = shapesOf(schema);
  file.print("use crate::codec::{Reader, Reply, Request, Writer};");
  file.print("use crate::handle::*;", "use crate::record::CallId;", "");
  file.print("#[cfg(test)]", '#[path = "cuda_tests.rs"]', "mod tests;", "");
  file.print("/// The name of a call, for messages and traces.");
  file.print("pub fn name_of(call: CallId) -> Option<&'static str> {", "    Some(match call.0 {");
  for (const { id, symbol } of everyName(schema)) {
    file.print(`        ${id} => "${symbol}",`);
  }
  file.print("        _ => return None,", "    })", "}");
  file.print(
    "",
    "/// Takes what is left of a record.",
    "fn take_rest<'a>(reader: &mut Reader<'a>) -> &'a [u8] {",
    "    reader.take_raw(reader.remaining())",
    "}",
  );
  for (const [name, record] of Object.entries(records)) {
    printRecord(file, name, record.doc);
  }
  for (const shape of shapes) {
    printShape(file, shape);
  }
  return file;
}

function everyName(schema: Schema): readonly { readonly id: number; readonly symbol: string }[] {
  const own = schema.protocolCalls.map(({ id, name }) => ({ id, symbol: name }));
  return [...own, ...schema.calls].toSorted((a, b) => a.id - b.id);
}

function printRecord(file: RustFile, name: string, doc: string): void {
  const fields = recordFields(name);
  file.print("", `/// ${doc}`, "#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]");
  printStruct(file, { name, fields, bytes: "" });
  file.print(
    `impl ${name} {`,
    "    /// Bytes on the wire.",
    `    pub const SIZE: usize = ${fields.map((field) => fixedSize(field.type)).reduce((a, b) => a + b, 0)};`,
    "",
    "    fn encode(&self, writer: &mut Writer<'_>) {",
    ...fields.map((field) => `        ${put(field, false)}`),
    "    }",
    "",
    "    fn decode(reader: &mut Reader<'_>) -> Self {",
    `        Self { ${fields.map((field) => `${field.name}: ${take(field, false)}`).join(", ")} }`,
    "    }",
    "}",
  );
}

function printShape(file: RustFile, shape: Shape): void {
  const lifetime = borrows(shape.request) ? "<'a>" : "";
  file.print("", `/// Request of \`${shape.symbol}\`.`, `#[derive(Debug, Clone, PartialEq, Default)]`);
  printStruct(file, { name: `${shape.name}${lifetime}`, fields: shape.request, bytes: "&'a [u8]" });
  const reply = shape.reply.length > 0 ? `${shape.name}Reply` : "()";
  const unused = shape.request.length === 0 ? "_" : "";
  file.print(
    "",
    `impl<'a> Request<'a> for ${shape.name}${lifetime} {`,
    `    const CALL: CallId = CallId(${shape.id});`,
    `    type Reply = ${reply};`,
    "",
    `    fn encode(&self, ${unused}writer: &mut Writer<'_>) {`,
    ...shape.request.map((field) => `        ${put(field, false)}`),
    "    }",
    "",
    `    fn decode(${unused}reader: &mut Reader<'a>) -> Self {`,
    `        Self { ${shape.request.map((field) => `${field.name}: ${take(field, false)}`).join(", ")} }`,
    "    }",
    ...streamMethods(shape),
    "}",
  );
  if (shape.reply.length === 0) {
    return;
  }
  file.print("", `/// Reply to \`${shape.symbol}\`.`, "#[derive(Debug, Clone, PartialEq, Default)]");
  printStruct(file, { name: reply, fields: shape.reply, bytes: "Vec<u8>" });
  file.print(
    "",
    `impl Reply for ${reply} {`,
    "    fn encode(&self, writer: &mut Writer<'_>) {",
    ...shape.reply.map((field) => `        ${put(field, true)}`),
    "    }",
    "",
    "    fn decode(reader: &mut Reader<'_>) -> Self {",
    `        Self { ${shape.reply.map((field) => `${field.name}: ${take(field, true)}`).join(", ")} }`,
    "    }",
    "}",
  );
}

function streamMethods(shape: Shape): readonly string[] {
  const method = (name: string, stream: string | undefined): readonly string[] =>
    stream === undefined
      ? []
      : ["", `    fn ${name}(&self) -> Option<Stream> {`, `        Some(${stream})`, "    }"];
  const field = (name: string | undefined): string | undefined =>
    name === undefined ? undefined : `self.${name}`;
  const legacy = worksOnLegacyStream(shape) ? "Stream::from_raw(0)" : undefined;
  return [
    ...method("stream", field(worksOnStream(shape)) ?? legacy),
    ...method("named_stream", field(namesStream(shape))),
  ];
}

interface Struct {
  readonly name: string;
  readonly fields: readonly Field[];
  /** The Rust type of byte fields. */
  readonly bytes: string;
}

function printStruct(file: RustFile, { name, fields, bytes }: Struct): void {
  if (fields.length === 0) {
    file.print(`pub struct ${name};`);
    return;
  }
  file.print(`pub struct ${name} {`);
  for (const field of fields) {
    file.print(`    pub ${field.name}: ${rustFieldType(field.type, bytes)},`);
  }
  file.print("}");
}

export function rustFieldType(type: string, bytes: string): string {
  if (type === "bytes" || type === "rest") {
    return bytes;
  }
  return type.startsWith("list ") ? `Vec<${type.slice(5)}>` : type.replace(/^new /, "");
}

/** Bytes of a value whose size does not vary. */
export function fixedSize(type: string): number {
  const array = /^\[u64; (\d+)\]$/.exec(type);
  if (array !== null) {
    return 8 * Number(array[1]);
  }
  const number = /^[uif](\d+)$/.exec(type);
  return number === null ? 8 : Number(number[1]) / 8;
}

/** Statement that appends a field of `self`; what a reply owns is borrowed for it. */
function put(field: Field, owned: boolean): string {
  const value = `self.${field.name}`;
  const slice = owned ? `&${value}` : value;
  if (field.type === "bytes") {
    return `writer.put_bytes(${slice});`;
  }
  if (field.type === "rest") {
    return `writer.put_raw(${slice});`;
  }
  if (field.type.startsWith("list ")) {
    return `writer.put_u32(u32::try_from(${value}.len()).unwrap_or(u32::MAX)); for item in &${value} { item.encode(writer); }`;
  }
  if (field.type.startsWith("[u64")) {
    return `for item in ${value} { writer.put_u64(item); }`;
  }
  if (/^[uif]\d+$/.test(field.type)) {
    return `writer.put_${field.type}(${value});`;
  }
  return `writer.put_u64(${value}.raw());`;
}

function take(field: Field, owned: boolean): string {
  const suffix = owned ? ".to_vec()" : "";
  if (field.type === "bytes") {
    return `reader.take_bytes()${suffix}`;
  }
  if (field.type === "rest") {
    return `take_rest(reader)${suffix}`;
  }
  if (field.type.startsWith("list ")) {
    const record = field.type.slice(5);
    return `(0..reader.take_count(${record}::SIZE)).map(|_| ${record}::decode(reader)).collect()`;
  }
  if (field.type.startsWith("[u64")) {
    return "std::array::from_fn(|_| reader.take_u64())";
  }
  if (/^[uif]\d+$/.test(field.type)) {
    return `reader.take_${field.type}()`;
  }
  return `${field.type.replace(/^new /, "")}::from_raw(reader.take_u64())`;
}

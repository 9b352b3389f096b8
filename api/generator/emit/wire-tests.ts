/** native/wire/src/generated/cuda_tests.rs: every record round-trips, and no truncated or padded one passes. */

import { RustFile, VENDOR_NAMES } from "../rust-file.ts";
import type { Schema } from "../schema.ts";
import { recordFields, shapesOf, type Field, type Shape } from "../shapes.ts";

export function emitWireTests(schema: Schema): RustFile {
  const file = new RustFile("native/wire/src/generated/cuda_tests.rs", {
    emitter: "wire-tests.ts",
    doc: "Every record is read back as it was written; cut anywhere, or with a byte too many, it is refused.",
    allow: [...VENDOR_NAMES],
  });
  file.print(
    "use super::*;",
    "",
    "macro_rules! check {",
    "    ($type:ty, $call:expr, $value:expr, open_end: $open:expr) => {{",
    "        let value = $value;",
    "        let mut bytes = Vec::new();",
    "        value.encode(&mut Writer::new(&mut bytes));",
    "        let mut reader = Reader::new(&bytes);",
    "        assert_eq!(<$type>::decode(&mut reader), value);",
    "        assert_eq!(reader.finish($call), Ok(()));",
    "        let fixed = bytes.len() - $open;",
    "        for length in 0..fixed {",
    "            let mut reader = Reader::new(&bytes[..length]);",
    "            let _ = <$type>::decode(&mut reader);",
    '            assert!(reader.finish($call).is_err(), "{length} of {} bytes were accepted", bytes.len());',
    "        }",
    "        if $open == 0 {",
    "            bytes.push(0);",
    "            let mut reader = Reader::new(&bytes);",
    "            let _ = <$type>::decode(&mut reader);",
    '            assert!(reader.finish($call).is_err(), "a byte too many was accepted");',
    "        }",
    "    }};",
    "}",
  );
  for (const shape of shapesOf(schema)) {
    file.print("", "#[test]", `fn ${shape.name}_round_trips() {`);
    file.print(`    ${check(shape, shape.request, shape.name)}`);
    if (shape.reply.length > 0) {
      file.print(`    ${check(shape, shape.reply, `${shape.name}Reply`)}`);
    }
    file.print("}");
  }
  return file;
}

function check(shape: Shape, fields: readonly Field[], type: string): string {
  const owned = fields === shape.reply;
  const open = fields.some((field) => field.type === "rest") ? DATA.length : 0;
  const value = fields.length === 0 ? type : `${type} { ${literal(fields, owned)} }`;
  return `check!(${type}, ${shape.name}::CALL, ${value}, open_end: ${open});`;
}

const DATA: readonly number[] = [7, 8, 9];

function literal(fields: readonly Field[], owned: boolean): string {
  return fields.map((field, index) => `${field.name}: ${sample(field.type, index + 1, owned)}`).join(", ");
}

function sample(type: string, seed: number, owned: boolean): string {
  if (type === "bytes" || type === "rest") {
    return owned ? `vec![${DATA.join(", ")}]` : `&[${DATA.join(", ")}]`;
  }
  if (type.startsWith("list ")) {
    const name = type.slice(5);
    const item = `${name} { ${literal(recordFields(name), owned)} }`;
    return `vec![${item}, ${item}]`;
  }
  if (type.startsWith("[u64")) {
    return type.replace("u64", String(seed));
  }
  if (type.startsWith("f")) {
    return `${seed}.5`;
  }
  return /^[ui]\d+$/.test(type) ? String(seed) : `${type.replace(/^new /, "")}::from_index(${seed})`;
}

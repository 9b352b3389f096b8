/**
 * Writes everything that follows from the description: `node api/generator/main.ts` writes,
 * `--check` fails when a checked-in file differs, `--toolkit DIR` compares the description with a CUDA toolkit.
 * Phases: load and check the description (schema.ts) → emit texts (emit/) → format → write or compare.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { emitAll } from "./emit/all.ts";
import { formatRust } from "./rustfmt.ts";
import { loadSchema } from "./schema.ts";
import { checkToolkit } from "./toolkit.ts";

const root = resolve(import.meta.dirname, "../..");

function main(): number {
  const { values } = parseArgs({
    options: { check: { type: "boolean", default: false }, toolkit: { type: "string" } },
  });
  const schema = loadSchema();
  const outputs = formatRust(root, emitAll(schema, root));
  const stale = outputs.filter((output) => read(join(root, output.path)) !== output.text);
  if (values.check) {
    for (const { path } of stale) {
      console.error(`${path} is not what the generator writes`);
    }
    if (stale.length > 0) {
      console.error("hint: run `npm run generate` and commit the result");
    }
  } else {
    for (const { path, text } of stale) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
      console.log(`wrote ${path}`);
    }
  }
  const drift = checkToolkit(schema, values.toolkit);
  for (const line of drift.notes) {
    console.log(line);
  }
  for (const line of drift.errors) {
    console.error(line);
  }
  return (values.check && stale.length > 0) || drift.errors.length > 0 ? 1 : 0;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

process.exitCode = main();

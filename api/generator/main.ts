/**
 * Writes everything that follows from the description: `node api/generator/main.ts` writes,
 * `--check` fails when a checked-in file differs, `--toolkit DIR` and `--nvml-header FILE` compare the descriptions with
 * NVIDIA's headers.
 * Phases: load and check the description (schema.ts) → emit texts (emit/) → format → write or compare.
 */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { emitAll } from "./emit/all.ts";
import { formatRust } from "./rustfmt.ts";
import { checkNvmlHeader } from "./nvml-header.ts";
import { loadNvmlSchema } from "./nvml-schema.ts";
import { loadSchema } from "./schema.ts";
import { checkToolkit } from "./toolkit.ts";

const root = resolve(import.meta.dirname, "../..");

function main(): number {
  const { values } = parseArgs({
    options: {
      check: { type: "boolean", default: false },
      toolkit: { type: "string" },
      "nvml-header": { type: "string" },
    },
  });
  const schema = loadSchema();
  const nvml = loadNvmlSchema();
  const outputs = formatRust(root, emitAll(schema, nvml, root));
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
  const drifts = [checkToolkit(schema, values.toolkit), checkNvmlHeader(nvml, values["nvml-header"])];
  for (const line of drifts.flatMap((drift) => drift.notes)) {
    console.log(line);
  }
  const errors = drifts.flatMap((drift) => drift.errors);
  for (const line of errors) {
    console.error(line);
  }
  return (values.check && stale.length > 0) || errors.length > 0 ? 1 : 0;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

process.exitCode = main();

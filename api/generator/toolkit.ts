/** Compares the description with the headers of a CUDA toolkit: names, parameter types, per-thread variants. */

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { normalised, readCudaHeader, type CudaHeader } from "./cuda-header.ts";
import type { Schema } from "./schema.ts";

/** The version that the description describes. */
const DESCRIBED_VERSION = 13000;

/** Headers outside cuda.h declare these. */
const ELSEWHERE = /^cuProfiler/;

export interface Drift {
  /** What makes the check fail. */
  readonly errors: readonly string[];
  /** What is worth a line: another version's differences, or that nothing was compared. */
  readonly notes: readonly string[];
}

export function checkToolkit(schema: Schema, toolkit: string | undefined): Drift {
  const home = toolkit ?? process.env["CUDA_HOME"];
  if (home === undefined) {
    return {
      errors: [],
      notes: ["no CUDA toolkit was named (--toolkit, CUDA_HOME): its headers were not compared"],
    };
  }
  const path = join(home, "include", "cuda.h");
  if (!existsSync(path)) {
    return { errors: [`${path} does not exist; expected the cuda.h of a CUDA toolkit`], notes: [] };
  }
  const header = readCudaHeader(readFileSync(path, "utf8"));
  const differences = compare(schema, header);
  return header.version === DESCRIBED_VERSION
    ? { errors: differences, notes: [] }
    : {
        errors: [],
        notes: differences.map((line) => `CUDA ${header.version} differs from ${DESCRIBED_VERSION}: ${line}`),
      };
}

export function compare(schema: Schema, header: CudaHeader): readonly string[] {
  const differences: string[] = [];
  const described = new Map(schema.calls.map((call) => [call.symbol, call]));
  for (const { symbol, types } of header.prototypes.values()) {
    const call = described.get(symbol);
    if (call === undefined) {
      differences.push(`cuda.h declares ${symbol}, which is not described`);
      continue;
    }
    const ours = call.parameters.map((parameter) => normalised(parameter.type));
    if (ours.join(", ") !== types.join(", ")) {
      differences.push(
        `${symbol} is described as (${ours.join(", ")}), cuda.h declares (${types.join(", ")})`,
      );
    }
  }
  for (const call of schema.calls) {
    if (!header.prototypes.has(call.symbol) && !ELSEWHERE.test(call.symbol)) {
      differences.push(`${call.symbol} is described, cuda.h does not declare it`);
    }
    const theirs = header.perThread.get(call.symbol);
    if (call.perThread?.suffix !== theirs) {
      differences.push(
        `${call.symbol} is described with the variant ${call.perThread?.suffix ?? "none"}, cuda.h has ${theirs ?? "none"}`,
      );
    }
  }
  return differences;
}

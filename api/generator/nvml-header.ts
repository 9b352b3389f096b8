/** Compares NVML's description with NVIDIA's nvml.h: names, parameter types, and by a C compiler layouts and values. */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

import { nvmlResults } from "../nvml/results.ts";
import { nvmlAliases, nvmlConstants, nvmlEnums, nvmlStructs } from "../nvml/types.ts";
import { normalised } from "./cuda-header.ts";
import type { NvmlSchema } from "./nvml-schema.ts";
import type { Drift } from "./toolkit.ts";

/** The header declares no private tables. */
const ELSEWHERE: ReadonlySet<string> = new Set(["nvmlInternalGetExportTable"]);

export interface NvmlPrototype {
  readonly symbol: string;
  /** C types, spelled as the description spells them. */
  readonly types: readonly string[];
}

export function checkNvmlHeader(schema: NvmlSchema, path: string | undefined): Drift {
  if (path === undefined)
    return { errors: [], notes: ["no nvml.h was named (--nvml-header): it was not compared"] };
  if (!existsSync(path))
    return { errors: [`${path} does not exist; expected the nvml.h of CUDA 13.0`], notes: [] };
  const prototypes = readNvmlHeader(readFileSync(path, "utf8"));
  return { errors: [...compareNvml(schema, prototypes), ...compareLayouts(path)], notes: [] };
}

/** Every version of a call. */
export function readNvmlHeader(text: string): readonly NvmlPrototype[] {
  const source = text.replaceAll(/\/\*[\s\S]*?\*\//g, " ").replaceAll(/\/\/.*$/gm, "");
  const found = new Map<string, NvmlPrototype>();
  for (const [, symbol = "", parameters = ""] of source.matchAll(
    /\bDECLDIR\b[\s\w*]*?\b(nvml[A-Z]\w*)\s*\(([^;{}]*)\)\s*;/g,
  )) {
    found.set(symbol, { symbol, types: parameterTypes(parameters) });
  }
  return [...found.values()];
}

export function compareNvml(schema: NvmlSchema, prototypes: readonly NvmlPrototype[]): readonly string[] {
  const differences: string[] = [];
  const declared = new Map(prototypes.map(({ symbol, types }) => [symbol, types]));
  const described = [...schema.calls.map(({ symbol }) => symbol), ...schema.unsupported];
  for (const { symbol } of prototypes) {
    if (!described.includes(symbol))
      differences.push(`nvml.h declares ${symbol}, which is in none of the lists of api/nvml`);
  }
  for (const symbol of described) {
    if (!declared.has(symbol) && !ELSEWHERE.has(symbol))
      differences.push(`${symbol} is described, nvml.h does not declare it`);
  }
  for (const { symbol, parameters } of schema.calls) {
    const ours = parameters.map(({ type }) => normalised(type)).join(", ");
    const theirs = declared.get(symbol)?.join(", ") ?? ours;
    if (ours !== theirs) differences.push(`${symbol} is described as (${ours}), nvml.h declares (${theirs})`);
  }
  return differences;
}

/** A C program whose compilation fails, by name, where a size, an offset or a value is another one. */
function compareLayouts(header: string): readonly string[] {
  const claims = [
    ...nvmlStructs.flatMap(({ name, size, align, fields }) => [
      `sizeof(${name}) == ${size}`,
      `_Alignof(${name}) == ${align}`,
      ...fields.map(([field, , offset]) => `offsetof(${name}, ${field}) == ${offset}`),
    ]),
    ...Object.entries(nvmlAliases).map(
      ([name, target]) => `sizeof(${name}) == ${target === "u32" ? 4 : `sizeof(${target})`}`,
    ),
    ...[...Object.values(nvmlEnums).flat(), ...nvmlResults].map(([name, value]) => `${name} == ${value}`),
    ...nvmlConstants.map(([name, , value]) => `${name} == ${value}`),
    // Which versions of structures native/nvml takes.
    "nvmlMemory_v2 == (sizeof(nvmlMemory_v2_t) | 2 << 24)",
    "nvmlTemperature_v1 == (sizeof(nvmlTemperature_v1_t) | 1 << 24)",
    "nvmlPciInfoExt_v1 == (sizeof(nvmlPciInfoExt_v1_t) | 1 << 24)",
  ];
  const input = [
    "#include <stddef.h>",
    `#include ${JSON.stringify(header)}`,
    ...claims.map((claim) => `_Static_assert(${claim}, ${JSON.stringify(claim)});`),
    "",
  ].join("\n");
  const outcome = spawnSync("cc", ["-std=c11", "-fsyntax-only", "-x", "c", "-"], { input, encoding: "utf8" });
  if (outcome.status === 0) return [];
  const said = outcome.error?.message ?? outcome.stderr;
  const lines = said.split("\n").filter((line) => line.includes("error"));
  return (lines.length > 0 ? lines : [said]).map((line) => `nvml.h differs: ${line}`);
}

function parameterTypes(parameters: string): readonly string[] {
  const trimmed = parameters.trim();
  if (trimmed === "" || trimmed === "void") return [];
  return trimmed.split(",").map((parameter) => {
    const [, type = "", , array] = /^(.*?)(\w+)\s*(\[\w*\])?$/s.exec(parameter.trim()) ?? [];
    return normalised(`${type}${array === undefined ? "" : "*"}`);
  });
}

/**
 * Where each symbol of a libcuda of ours comes from: hand-written (`crate::exports`), a remoting stub, a variant
 * that forwards to another symbol, or the stub that answers NOT_SUPPORTED.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";

import type { Call } from "../model.ts";
import type { Schema, Symbol } from "./schema.ts";

export type Origin = "exports" | "remoted" | "variants" | "unsupported";

export interface Library {
  /** Folder of the crate. */
  readonly folder: string;
  /** Exported is a jump through a slot, which may lead to another library's function. */
  readonly hasSlots: boolean;
  origin(symbol: Symbol): Origin;
}

/** The shim implements what the description says. */
export function shimLibrary(schema: Schema): Library {
  const originOf = (call: Call): Origin => {
    if (call.class === "unsupported") {
      return "unsupported";
    }
    if (call.alias !== undefined || call.constant === true) {
      return "variants";
    }
    return call.class === "async" || call.class === "sync" ? "remoted" : "exports";
  };
  return { ...library("native/shim-cuda", schema, originOf), hasSlots: true };
}

/** The simulated GPU implements what its engineers list, by symbol. */
export function simgpuLibrary(schema: Schema, root: string): Library {
  const listed = new Set(readList(join(root, "api/cuda/simgpu-implemented.json")));
  for (const symbol of listed) {
    if (!schema.symbols.some(({ name }) => name === symbol)) {
      throw new Error(`api/cuda/simgpu-implemented.json lists ${symbol}, which is not described`);
    }
  }
  const originOf = (call: Call): Origin => {
    if (listed.has(call.symbol)) {
      return "exports";
    }
    const forwards = call.constant === true || (call.alias !== undefined && listed.has(call.alias));
    return forwards ? "variants" : "unsupported";
  };
  const base = library("native/simgpu", schema, originOf);
  return { ...base, origin: (symbol) => (listed.has(symbol.name) ? "exports" : base.origin(symbol)) };
}

function library(folder: string, schema: Schema, originOf: (call: Call) => Origin): Library {
  return {
    folder,
    hasSlots: false,
    origin: ({ call, perThread }) => {
      if (!perThread) {
        return originOf(call);
      }
      const target = call.perThread?.suffix === "ptds" ? call.perThread.streamForm : call.symbol;
      const implemented = target !== undefined && originOf(schema.call(target)) !== "unsupported";
      return implemented ? "variants" : "unsupported";
    },
  };
}

/** Path of a call's function inside its crate. */
export function functionPath(library: Library, schema: Schema, symbol: string): string {
  const found = schema.symbols.find(({ name }) => name === symbol);
  if (found === undefined) {
    throw new Error(`${symbol} is not described`);
  }
  const origin = library.origin(found);
  return origin === "exports" ? `crate::exports::${symbol}` : `crate::generated::${origin}::${symbol}`;
}

export function originCounts(library: Library, schema: Schema): ReadonlyMap<Origin, number> {
  const counts = new Map<Origin, number>();
  for (const symbol of schema.symbols) {
    const origin = library.origin(symbol);
    counts.set(origin, (counts.get(origin) ?? 0) + 1);
  }
  return counts;
}

export function readList(path: string): readonly string[] {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return [];
  }
  const list: unknown = JSON.parse(text);
  if (!Array.isArray(list) || !list.every((item) => typeof item === "string")) {
    throw new Error(`${path} holds something else than a list of names`);
  }
  return list;
}

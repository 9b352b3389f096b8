/** NVML's description, checked: symbols are unique, every type is known, lengths name parameters. */

import { nvmlNouns } from "../nvml/index.ts";
import type { NvmlCall, NvmlNoun } from "../nvml/model.ts";
import { rustType } from "./c-types.ts";

export interface NvmlSchema {
  readonly nouns: readonly NvmlNoun[];
  /** Answered calls, by symbol. */
  readonly calls: readonly NvmlCall[];
  /** Symbols that answer NOT_SUPPORTED, sorted. */
  readonly unsupported: readonly string[];
}

export function loadNvmlSchema(nouns: readonly NvmlNoun[] = nvmlNouns): NvmlSchema {
  const calls = nouns.flatMap((noun) => noun.calls);
  const unsupported = nouns.flatMap((noun) => noun.unsupported);
  const known = new Set<string>();
  for (const symbol of [...calls.map((call) => call.symbol), ...unsupported]) {
    if (!/^nvml[A-Z]\w*$/.test(symbol))
      throw new Error(`${symbol} is described, expected a name that begins with nvml`);
    if (known.has(symbol)) throw new Error(`${symbol} is described twice`);
    known.add(symbol);
  }
  for (const { symbol, parameters } of calls) {
    const names = new Set(parameters.map((parameter) => parameter.name));
    for (const { name, type, length } of parameters) {
      rustType(type);
      if (length !== undefined && !names.has(length))
        throw new Error(`${symbol}.${name} has length ${length}, no such parameter`);
    }
  }
  return {
    nouns,
    calls: calls.toSorted((a, b) => (a.symbol < b.symbol ? -1 : 1)),
    unsupported: unsupported.toSorted(),
  };
}

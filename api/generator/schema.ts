/**
 * The description, checked and looked up. Everything after this file relies on it: ids are unique and not the
 * protocol's, symbols are unique, aliases and stream forms exist, every type is known.
 */

import { calls } from "../cuda/index.ts";
import { retiredIds } from "../cuda/retired-ids.ts";
import { protocolCalls, type ProtocolCall } from "../protocol.ts";
import type { Call } from "../model.ts";
import { rustType } from "./c-types.ts";

/** One exported symbol: a call itself, or its per-thread variant. */
export interface Symbol {
  readonly name: string;
  readonly call: Call;
  readonly perThread: boolean;
}

export interface Schema {
  readonly calls: readonly Call[];
  readonly symbols: readonly Symbol[];
  readonly protocolCalls: readonly ProtocolCall[];
  call(symbol: string): Call;
}

/** Ids below this belong to the protocol's own records. */
const FIRST_ID = 16;

export function loadSchema(description: readonly Call[] = calls): Schema {
  const bySymbol = new Map<string, Call>();
  const byId = new Map<number, string>();
  for (const { id, name } of protocolCalls) {
    const taken = byId.get(id);
    if (taken !== undefined) throw new Error(`${name} has id ${id}, which ${taken} has already`);
    byId.set(id, name);
  }
  for (const call of description) {
    checkCall(call, byId);
    if (bySymbol.has(call.symbol)) {
      throw new Error(`${call.symbol} is described twice`);
    }
    bySymbol.set(call.symbol, call);
    byId.set(call.id, call.symbol);
  }
  for (const call of description) {
    for (const target of [call.alias, call.perThread?.streamForm]) {
      if (target !== undefined && !bySymbol.has(target)) {
        throw new Error(`${call.symbol} refers to ${target}, which is not described`);
      }
    }
  }
  return {
    calls: description,
    symbols: symbolsOf(description),
    protocolCalls,
    call: (symbol) => {
      const call = bySymbol.get(symbol);
      if (call === undefined) {
        throw new Error(`${symbol} is not described`);
      }
      return call;
    },
  };
}

export function perThreadSymbol(call: Call): string | undefined {
  return call.perThread && `${call.symbol}_${call.perThread.suffix}`;
}

function checkCall(call: Call, byId: ReadonlyMap<number, string>): void {
  const taken = byId.get(call.id);
  if (taken !== undefined) {
    throw new Error(`${call.symbol} has id ${call.id}, which ${taken} has already`);
  }
  if (!Number.isInteger(call.id) || call.id < FIRST_ID || call.id > 0xffff) {
    throw new Error(`${call.symbol} has id ${call.id}, expected ${FIRST_ID} to 65535`);
  }
  if (retiredIds.has(call.id)) {
    throw new Error(`${call.symbol} has id ${call.id}, which is retired`);
  }
  if (call.wire !== undefined && call.class !== "manual") {
    throw new Error(`${call.symbol} is ${call.class} and declares a wire shape; only manual calls do`);
  }
  if (call.remembered === true && call.class !== "sync") {
    throw new Error(
      `${call.symbol} is ${call.class} and remembered; only sync calls have answers to remember`,
    );
  }
  if (call.forgets === true && call.class !== "async") {
    throw new Error(`${call.symbol} is ${call.class} and forgets; only generated async calls do`);
  }
  const names = new Set(call.parameters.map((parameter) => parameter.name));
  for (const parameter of call.parameters) {
    rustType(parameter.type);
    if (parameter.length !== undefined && /^\w+$/.test(parameter.length) && !names.has(parameter.length)) {
      throw new Error(`${call.symbol}.${parameter.name} has length ${parameter.length}, no such parameter`);
    }
  }
}

function symbolsOf(description: readonly Call[]): readonly Symbol[] {
  const symbols: Symbol[] = [];
  for (const call of description) {
    symbols.push({ name: call.symbol, call, perThread: false });
    const variant = perThreadSymbol(call);
    if (variant !== undefined) {
      symbols.push({ name: variant, call, perThread: true });
    }
  }
  // Byte order, as Rust's binary search over &str compares.
  return symbols.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * The words in which the CUDA driver API is described: a call is one exported function (one ABI variant), its
 * parameters, and how it is answered. The description lives in `cuda/`, one file per noun; the generator reads
 * nothing else.
 */

/**
 * How a call is answered in the client.
 *
 * - `local`: from what the client knows; hand-written in the shim, nothing is sent
 * - `async`: one record, nobody waits
 * - `sync`: one record, the caller waits for the reply
 * - `manual`: hand-written on both sides; what travels is declared here as `wire`
 * - `unsupported`: answers CUDA_ERROR_NOT_SUPPORTED and says so once
 */
export type CallClass = "local" | "async" | "sync" | "manual" | "unsupported";

/** Which way a parameter carries values; `create` receives a new handle, `destroy` ends one. */
export type Direction = "in" | "out" | "inout" | "create" | "destroy";

export interface Parameter {
  readonly name: string;
  /** The C type, spelled as in the vendor's documentation. */
  readonly type: string;
  readonly direction: Direction;
  /** A null pointer or handle is legal. */
  readonly nullable?: true;
  /** Number of elements behind the pointer: an expression over sibling parameters. */
  readonly length?: string;
}

/** The second symbol of a call, for programs compiled with a per-thread default stream. */
export interface PerThread {
  /** `ptsz`: stream 0 means the thread's stream; `ptds`: there is no stream parameter. */
  readonly suffix: "ptsz" | "ptds";
  readonly since: number;
  /** For `ptds`: the call with a stream parameter that does the same. */
  readonly streamForm?: string;
  /** For `ptds`: the stream is waited for, because the caller may look at the result at once. */
  readonly waits?: true;
}

/**
 * Fields of a record, by name in order. Types: `u8` … `f64`, a kind of handle (`Stream`), `new Stream` for one that the
 * call makes, `[u64; 8]`, `list X` for records of protocol.ts, `bytes` (counted), `rest` (what is left; last only).
 */
export type Fields = Readonly<Record<string, string>>;

export interface Wire {
  readonly request: Fields;
  readonly reply?: Fields;
}

export interface CallOptions {
  /** Permanent number on the wire; never reused, never derived from order. */
  readonly id: number;
  /** First CUDA version with this symbol, as `cuGetProcAddress` counts it (13000 for 13.0). */
  readonly since: number;
  readonly perThread?: PerThread;
  /** Name given to `cuGetProcAddress`; by default the symbol without `_vN`. */
  readonly base?: string;
  /** Hand-declared shape of a `manual` call; a manual call without one uses other calls' records. */
  readonly wire?: Wire;
  /** Symbol with the same signature and meaning: this one forwards to it. */
  readonly alias?: string;
  /** Call of a function in the shim's `crate::hooks` that refuses, before anything is sent, what CUDA refuses at once. */
  readonly check?: string;
  /** Call of a function in the shim's `crate::capture` that refuses what captures of streams forbid. */
  readonly refused?: string;
  /** Call of a function in the shim's `crate::capture` that makes a node of it where the stream captures, and says so. */
  readonly captured?: string;
  /** Call of a function in the shim's `crate::elsewhere` that makes the call where it leads from one server to another. */
  readonly elsewhere?: string;
  /** Call of a function in the shim's `crate::queries` that knows the answer, or `Option`ally knows it. */
  readonly known?: string;
  /** Function of the shim's `crate::hooks` that is told about a success, with handle and inputs. */
  readonly hook?: string;
  /** The answer to a `sync` call with the same arguments stays the same until a call that `forgets`: asked for once. */
  readonly remembered?: true;
  /** Answers of `remembered` calls may be others after this one. */
  readonly forgets?: true;
  /** A `local` call that always answers success. */
  readonly constant?: true;
}

export interface Call extends CallOptions {
  readonly symbol: string;
  readonly base: string;
  readonly class: CallClass;
  readonly parameters: readonly Parameter[];
}

export interface Noun {
  readonly name: string;
  readonly calls: readonly Call[];
}

type Extra = Pick<Parameter, "nullable" | "length">;

export function input(name: string, type: string, extra: Extra = {}): Parameter {
  return { name, type, direction: "in", ...extra };
}

export function output(name: string, type: string, extra: Extra = {}): Parameter {
  return { name, type, direction: "out", ...extra };
}

export function inout(name: string, type: string, extra: Extra = {}): Parameter {
  return { name, type, direction: "inout", ...extra };
}

export function creates(name: string, type: string): Parameter {
  return { name, type, direction: "create" };
}

export function destroys(name: string, type: string): Parameter {
  return { name, type, direction: "destroy" };
}

type Declare = (symbol: string, options: CallOptions, parameters: readonly Parameter[]) => Call;

function declare(callClass: CallClass): Declare {
  return (symbol, options, parameters) => ({
    base: symbol.replace(/_v\d+$/, ""),
    ...options,
    symbol,
    class: callClass,
    parameters,
  });
}

export const local: Declare = declare("local");
export const oneWay: Declare = declare("async");
export const waiting: Declare = declare("sync");
export const manual: Declare = declare("manual");
export const unsupported: Declare = declare("unsupported");

export function noun(name: string, calls: readonly Call[]): Noun {
  return { name, calls };
}

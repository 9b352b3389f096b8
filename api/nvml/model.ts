/**
 * The words in which NVML is described. Nothing of it travels to a worker: a call is answered from what the broker (or
 * the simulated GPU) tells of its GPUs, or not at all.
 */

import type { Parameter } from "../model.ts";

export interface NvmlCall {
  readonly symbol: string;
  readonly parameters: readonly Parameter[];
  /** `nvmlReturn_t` but for the one call that cannot fail. */
  readonly result: "nvmlReturn_t" | "const char *";
}

export interface NvmlNoun {
  readonly name: string;
  /** Answered; the body is hand-written in native/nvml/src/calls. */
  readonly calls: readonly NvmlCall[];
  /** Answer NVML_ERROR_NOT_SUPPORTED whatever they are given, and say so once: only their names matter. */
  readonly unsupported: readonly string[];
}

export function answered(symbol: string, parameters: readonly Parameter[]): NvmlCall {
  return { symbol, parameters, result: "nvmlReturn_t" };
}

export function nvmlNoun(
  name: string,
  calls: readonly NvmlCall[],
  unsupported: readonly string[] = [],
): NvmlNoun {
  return { name, calls, unsupported };
}

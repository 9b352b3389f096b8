import type { Filter, Size } from "@farpool/contract";
import type { RunOptions } from "../run/options.ts";

export interface ResourceOptions {
  readonly count: number | undefined;
  readonly share: Size | undefined;
  readonly memory: Size | undefined;
  readonly servers: Filter | undefined;
  readonly filters: readonly Filter[] | undefined;
  readonly isVerbose: boolean;
  readonly isQuiet: boolean;
}

/** As `farpool run` has them. There it is always another session, also inside of one. */
export function toRunOptions({ servers, filters, ...options }: ResourceOptions): RunOptions {
  const all = [...(filters ?? []), ...(servers === undefined ? [] : [servers])];
  return {
    ...options,
    filters: all.length === 0 ? undefined : all,
    wait: undefined,
    priority: undefined,
    isSpread: false,
    name: undefined,
    project: undefined,
    labels: undefined,
    idleTimeout: undefined,
    maxDuration: undefined,
    isNew: true,
    summary: undefined,
  };
}

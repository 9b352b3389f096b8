import type { Filter, FilterOperator } from "@farpool/contract";
import type { GpuCapacity, ServerCapacity } from "./capacity.ts";

type Value = string | number | boolean;

/** Whether a GPU is one of those that will do. What a server does not tell is no match, whatever was asked. */
export function matches(filter: Filter, server: ServerCapacity, gpu: GpuCapacity): boolean {
  const values = valuesOf(filter, server, gpu);
  if (values.length === 0) return false;
  // One of several addresses is enough for "is"; "is not" has to be true of all.
  const holds = (value: Value): boolean => compare(filter, value);
  return filter.operator === "!=" ? values.every(holds) : values.some(holds);
}

export function matchesAll(filters: readonly Filter[], server: ServerCapacity, gpu: GpuCapacity): boolean {
  return filters.every((filter) => matches(filter, server, gpu));
}

function valuesOf({ key }: Filter, server: ServerCapacity, gpu: GpuCapacity): readonly Value[] {
  const { facts } = server;
  switch (key) {
    case "gpu.name":
      return [gpu.name];
    case "gpu.uuid":
      return [gpu.uuid];
    case "gpu.index":
      return [gpu.index];
    case "gpu.memory":
      return [gpu.totalBytes];
    case "gpu.capability":
      return told(gpu.computeCapability);
    case "gpu.multiprocessors":
      return told(gpu.multiprocessors);
    case "server.name":
      return [server.name];
    case "server.addr":
      return facts?.addresses ?? [];
    case "server.cuda-version":
      return told(facts?.cudaVersion);
    case "server.driver-version":
      return told(facts?.driverVersion);
    case "server.has-rdma":
      // No data path of ours uses it.
      return [false];
    case "server.simulated":
      return told(facts?.isSimulated);
    default:
      return told(facts?.labels[key.slice("server.label.".length)]);
  }
}

function told<T extends Value>(value: T | null | undefined): readonly T[] {
  return value === null || value === undefined || value === "" ? [] : [value];
}

function compare({ kind, operator, value: wanted }: Filter, value: Value): boolean {
  switch (kind) {
    case "text": {
      const isEqual = resembles(String(value), String(wanted));
      return operator === "=" ? isEqual : !isEqual;
    }
    case "version":
      return holds(operator, compareVersions(String(value), String(wanted)));
    case "number":
    case "memory":
    case "boolean":
      return holds(operator, Number(value) - Number(wanted));
  }
}

function holds(operator: FilterOperator, difference: number): boolean {
  switch (operator) {
    case "=":
      return difference === 0;
    case "!=":
      return difference !== 0;
    case ">":
      return difference > 0;
    case ">=":
      return difference >= 0;
    case "<":
      return difference < 0;
    case "<=":
      return difference <= 0;
  }
}

/** Without regard to case; `*` stands for anything. Linear in both: the pattern is a stranger's. */
function resembles(text: string, pattern: string): boolean {
  const subject = text.toLowerCase();
  const [first = "", ...rest] = pattern.split("*");
  if (rest.length === 0) return subject === pattern;
  if (!subject.startsWith(first)) return false;
  const last = rest.pop() ?? "";
  let at = first.length;
  for (const part of rest) {
    const found = subject.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return subject.length - last.length >= at && subject.endsWith(last);
}

/** Below 0: the left one is lower. Part by part; what is not written is 0. */
export function compareVersions(left: string, right: string): number {
  const [a, b] = [left.split("."), right.split(".")];
  for (let part = 0; part < Math.max(a.length, b.length); part += 1) {
    const difference = Number(a[part] ?? 0) - Number(b[part] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

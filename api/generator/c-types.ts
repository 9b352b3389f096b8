/** C types to Rust types. */

import { enums } from "../cuda/enums.ts";
import { structs } from "../cuda/structs.ts";
import { aliases, callbacks, handles, opaque, plainEnums, scalars } from "../cuda/types.ts";
import { nvmlAliases, nvmlEnums, nvmlHandles, nvmlOpaque, nvmlStructs } from "../nvml/types.ts";

const named: ReadonlySet<string> = new Set([
  "CUresult",
  "CUdevice_attribute",
  ...Object.keys(aliases),
  ...Object.keys(callbacks),
  ...Object.keys(enums),
  ...Object.keys(handles),
  ...opaque,
  ...plainEnums,
  ...structs.map((struct) => struct.name),
  "nvmlReturn_t",
  ...Object.keys(nvmlAliases),
  ...Object.keys(nvmlEnums),
  ...nvmlHandles,
  ...nvmlOpaque,
  ...nvmlStructs.map((struct) => struct.name),
]);

/** The Rust spelling of a C type such as `const CUgraphNode **`. */
export function rustType(type: string): string {
  const array = /^(.+)\[(\d+)\]$/.exec(type);
  if (array !== null) {
    return `[${rustType(array[1] ?? "")}; ${array[2]}]`;
  }
  const [, isConst, base = "", stars = ""] = /^(const )?([\w ]+?) ?(\**)$/.exec(type) ?? [];
  const rust = scalars[base] ?? (named.has(base) ? base : undefined);
  if (rust === undefined) {
    throw new Error(`unknown C type "${type}"`);
  }
  // `const T **` is a mutable pointer to pointers to constants: the const belongs to the innermost.
  let result = rust;
  for (let level = 0; level < stars.length; level += 1) {
    result = `${isConst && level === 0 ? "*const" : "*mut"} ${result}`;
  }
  return result;
}

/** The type behind one pointer. */
export function pointee(type: string): string {
  return type
    .replace(/^const /, "")
    .replace(/\*$/, "")
    .trim();
}

export function isPointer(type: string): boolean {
  return type.endsWith("*");
}

/** Flag sets are unsigned in every signature that takes them as a number; other enumerations are signed. */
export function enumRepresentation(name: string): "u32" | "i32" {
  return name.endsWith("_flags") ? "u32" : "i32";
}

/**
 * Reads the entry points of a toolkit's cuda.h: names, parameter types, and which have per-thread variants. It reads
 * just enough C for that header: comments, `#define name other`, and prototypes, with the older ABI in the blocks
 * under `__CUDA_API_VERSION_INTERNAL`.
 */

export interface Prototype {
  readonly symbol: string;
  /** C types, spelled as the description spells them. */
  readonly types: readonly string[];
}

export interface CudaHeader {
  /** 13000 for 13.0. */
  readonly version: number;
  readonly prototypes: ReadonlyMap<string, Prototype>;
  /** Symbols with a `_ptsz` or `_ptds` twin, and which of the two. */
  readonly perThread: ReadonlyMap<string, "ptsz" | "ptds">;
}

export function readCudaHeader(text: string): CudaHeader {
  const source = text.replaceAll(/\/\*[\s\S]*?\*\//g, " ").replaceAll(/\/\/.*$/gm, "");
  const version = Number(/#define CUDA_VERSION (\d+)/.exec(source)?.[1] ?? 0);
  const renames = new Map<string, string>();
  const perThread = new Map<string, "ptsz" | "ptds">();
  for (const [, name = "", wrapper, target = ""] of source.matchAll(
    /^\s*#define\s+(cu[A-Z]\w*)\s+(?:__CUDA_API_(PTDS|PTSZ)\()?(cu[A-Z]\w*)\)?\s*$/gm,
  )) {
    if (target === "cuGetProcAddress_v2_ptsz") {
      continue; // a header-only wrapper, not an export
    }
    renames.set(name, target);
    if (wrapper !== undefined) {
      perThread.set(target, wrapper === "PTDS" ? "ptds" : "ptsz");
    }
  }
  const prototypes = new Map<string, Prototype>();
  for (const zone of zones(source)) {
    for (const [, name = "", parameters = ""] of zone.text.matchAll(
      /\bCUresult\s+CUDAAPI\s+(cu[A-Z]\w*)\s*\(([^;{}]*)\)\s*;/g,
    )) {
      const symbol = zone.internal ? name : (renames.get(name) ?? name);
      const known = [...perThread].find(([target, suffix]) => symbol === `${target}_${suffix}`);
      if (known === undefined) {
        prototypes.set(symbol, { symbol, types: parameterTypes(parameters) });
      } else {
        perThread.set(known[0], known[1]);
      }
    }
  }
  // A few older names have their twins declared one by one.
  for (const symbol of [...prototypes.keys()]) {
    const twin = /^(.*)_(ptsz|ptds)$/.exec(symbol);
    if (twin?.[1] !== undefined) {
      perThread.set(twin[1], twin[2] === "ptds" ? "ptds" : "ptsz");
      prototypes.delete(symbol);
    }
  }
  return { version, prototypes, perThread };
}

/** The header in pieces: inside and outside the blocks that declare the older ABI under its own names. */
function zones(source: string): readonly { readonly internal: boolean; readonly text: string }[] {
  const pieces: { internal: boolean; text: string }[] = [];
  const conditions: boolean[] = [];
  for (const line of source.split("\n")) {
    const directive = /^\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b(.*)$/.exec(line);
    if (directive === null) {
      const internal = conditions.includes(true);
      const last = pieces.at(-1);
      if (last === undefined || last.internal !== internal) {
        pieces.push({ internal, text: `${line}\n` });
      } else {
        last.text += `${line}\n`;
      }
    } else if (directive[1] === "endif") {
      conditions.pop();
    } else if (directive[1]?.startsWith("if")) {
      conditions.push((directive[2] ?? "").trim() === "defined(__CUDA_API_VERSION_INTERNAL)");
    } else {
      conditions[conditions.length - 1] = false;
    }
  }
  return pieces;
}

function parameterTypes(parameters: string): readonly string[] {
  const trimmed = parameters.trim();
  if (trimmed === "" || trimmed === "void") {
    return [];
  }
  return trimmed.split(",").map((parameter) => {
    const [, type = "", , array] = /^(.*?)(\w+)\s*(\[\])?$/s.exec(parameter.trim()) ?? [];
    return normalised(`${type}${array === undefined ? "" : "*"}`);
  });
}

/** `const  char* *` → `const char **`; `unsigned` → `unsigned int` */
export function normalised(type: string): string {
  const stars = (type.match(/\*/g) ?? []).join("");
  const base = type.replaceAll("*", " ").replaceAll(/\s+/g, " ").trim();
  return `${base === "unsigned" ? "unsigned int" : base}${stars === "" ? "" : ` ${stars}`}`;
}

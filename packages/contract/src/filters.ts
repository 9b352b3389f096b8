import * as z from "zod";
import { FarpoolError } from "./errors.ts";
import { MIB, parseMemory } from "./sizes.ts";

/**
 * Which GPUs will do: `gpu.memory>=40GiB`, `gpu.name=*H200*`, `server.label.rack!=r7`. Several filters must all
 * hold. The keys of the reference product (`device.…`) are understood, too, with its unit: MiB when bare.
 */

export type FilterOperator = "=" | "!=" | ">" | ">=" | "<" | "<=";

/** What a key's values are, and so how they are compared. */
type FilterKind = "text" | "number" | "memory" | "version" | "boolean";

export interface Filter {
  readonly key: FilterKey | `server.label.${string}`;
  readonly operator: FilterOperator;
  readonly kind: FilterKind;
  readonly value: string | number | boolean;
  /** As it was written, for sentences. */
  readonly text: string;
}

const KEYS = {
  "gpu.name": "text",
  "gpu.uuid": "text",
  "gpu.index": "number",
  "gpu.memory": "memory",
  "gpu.capability": "version",
  "gpu.multiprocessors": "number",
  "server.name": "text",
  "server.addr": "text",
  "server.cuda-version": "version",
  "server.driver-version": "version",
  "server.has-rdma": "boolean",
  "server.simulated": "boolean",
} as const satisfies Record<string, FilterKind>;
export type FilterKey = keyof typeof KEYS;

/** Other names of the same. */
const ALIASES: Readonly<Record<string, FilterKey>> = {
  "server.hostname": "server.name",
  "device.id": "gpu.index",
  "device.name": "gpu.name",
  "device.phy-memory": "gpu.memory",
};

const LABEL = /^server\.label\.[\w./-]{1,63}$/;

export const filterTextSchema = z.string().min(1).max(200);

export function parseFilter(text: string): Filter {
  const match = /^\s*([\w./-]+)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*$/.exec(text);
  const [, given = "", sign = "=", word = ""] = match ?? [];
  if (match === null || word === "") {
    throw new FarpoolError("FARPOOL_USAGE", `--filter takes KEY OPERATOR VALUE, not '${shown(text)}'`, {
      hint: "--filter 'gpu.memory>=40GiB'; operators are = != > >= < <=",
    });
  }
  const operator = (sign === "==" ? "=" : sign) as FilterOperator;
  const key = ALIASES[given] ?? given.replace(/^server\.labels\./, "server.label.");
  const kind = isKey(key) ? KEYS[key] : LABEL.test(key) ? "text" : undefined;
  if (kind === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", `--filter: there is no '${shown(given)}' to filter by`, {
      hint: `there are ${[...Object.keys(KEYS), "server.label.NAME", ...Object.keys(ALIASES)].join(", ")}`,
    });
  }
  const isOrdered = operator !== "=" && operator !== "!=";
  if (isOrdered && (kind === "text" || kind === "boolean")) {
    throw new FarpoolError("FARPOOL_USAGE", `--filter '${shown(text)}': ${given} is equal or it is not`, {
      hint: `${given}=VALUE or ${given}!=VALUE${kind === "text" ? "; * stands for anything" : ""}`,
    });
  }
  return {
    key: key as Filter["key"],
    operator,
    kind,
    value: valueOf({ kind, word, text }),
    text: text.trim(),
  };
}

function valueOf({
  kind,
  word,
  text,
}: {
  readonly kind: FilterKind;
  readonly word: string;
  readonly text: string;
}): Filter["value"] {
  switch (kind) {
    case "text":
      return word.toLowerCase();
    case "number": {
      if (/^\d{1,15}$/.test(word)) return Number(word);
      throw wrong(text, "a whole number", "8");
    }
    case "memory": {
      try {
        const size = parseMemory(word);
        if (size.kind === "memory") return size.memoryMib * MIB;
      } catch (error) {
        if (!(error instanceof FarpoolError)) throw error;
      }
      throw wrong(text, "an amount of memory", "40GiB");
    }
    case "version": {
      if (/^\d{1,9}(\.\d{1,9}){0,3}$/.test(word)) return word;
      throw wrong(text, "a version", "8.6");
    }
    case "boolean": {
      if (word === "true" || word === "false") return word === "true";
      throw wrong(text, "true or false", "true");
    }
  }
}

function wrong(text: string, expected: string, example: string): FarpoolError {
  return new FarpoolError("FARPOOL_USAGE", `--filter '${shown(text)}': the value has to be ${expected}`, {
    hint: `for example ${example}`,
  });
}

function isKey(key: string): key is FilterKey {
  return Object.hasOwn(KEYS, key);
}

function shown(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}

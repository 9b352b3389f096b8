import {
  FarpoolError,
  holdModes,
  MIB,
  parseMemory,
  policyFieldNames,
  type LabelRequirement,
  type PolicyFieldName,
} from "@farpool/contract";
import { FIELD_OPTIONS, parseRequirement } from "@farpool/policies";
import { lifetimeMs, waitMs, wholeNumber } from "./parse-values.ts";

/** What stands for no limit; null from here on. */
const UNLIMITED = "unlimited";

function orUnlimited<T>(parse: (text: string) => T): (text: string) => { readonly limit: T | null } {
  return (text) => ({ limit: text === UNLIMITED ? null : parse(text) });
}

export function policyNumber(name: string, least: number, most: number) {
  return orUnlimited((text) => {
    if (least < 0 && /^-\d+$/.test(text) && Number(text) >= least) return Number(text);
    return wholeNumber(name, Math.max(0, least), most)(text);
  });
}

export function policyLifetime(name: string, least = 1) {
  return orUnlimited((text) => (least === 0 ? waitMs(text) : lifetimeMs(name)(text)));
}

export const policyMemory = orUnlimited((text) => {
  try {
    const size = parseMemory(text);
    return size.kind === "memory" ? size.memoryMib : 0;
  } catch (error) {
    if (!(error instanceof FarpoolError)) throw error;
    throw new FarpoolError(
      "FARPOOL_USAGE",
      `--memory takes an amount of memory or 'unlimited', not '${text}'`,
      {
        hint: `--memory 80GiB; a bare number is MiB of ${MIB} bytes`,
        cause: error,
      },
    );
  }
});

export function serverRequirement(option: string): (text: string) => LabelRequirement {
  return (text) => parseRequirement(text, option);
}

export function yesOrNo(text: string): boolean {
  if (text === "yes") return true;
  if (text === "no") return false;
  throw new FarpoolError("FARPOOL_USAGE", `--service-only takes yes or no, not '${text}'`, { hint: null });
}

export function holdMode(text: string): (typeof holdModes)[number] {
  const mode = holdModes.find((each) => each === text);
  if (mode !== undefined) return mode;
  throw new FarpoolError("FARPOOL_USAGE", `--hold takes ${holdModes.join(" or ")}, not '${text}'`, {
    hint: null,
  });
}

/** A field by the name of its option. */
export function policyFieldName(text: string): PolicyFieldName {
  const field = policyFieldNames.find((each) => FIELD_OPTIONS[each] === text);
  if (field !== undefined) return field;
  throw new FarpoolError("FARPOOL_USAGE", `there is no policy field '${text}'`, {
    hint: `fields are ${policyFieldNames.map((each) => FIELD_OPTIONS[each]).join(", ")}`,
  });
}

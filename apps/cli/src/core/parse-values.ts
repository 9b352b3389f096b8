import {
  FarpoolError,
  labelNameSchema,
  labelValueSchema,
  parseDurationMs,
  projectNameSchema,
  serverLabelsSchema,
  sessionNameSchema,
} from "@farpool/contract";
import { parseAmount } from "@farpool/usage";

const LONGEST_LIFETIME_MS = 3_650 * 86_400_000;
const LONGEST_WAIT_MS = 365 * 86_400_000;
/** Below it a connection is given up that a busy network only delays. */
const SHORTEST_GRACE_MS = 1_000;
const LONGEST_GRACE_MS = 86_400_000;

export function waitMs(text: string): number {
  const ms = parseDurationMs(text, "--wait");
  if (ms <= LONGEST_WAIT_MS) return ms;
  throw new FarpoolError("FARPOOL_USAGE", `--wait takes 365 days at most, not '${text}'`, {
    hint: "without --wait a session waits as long as it takes",
  });
}

/** From a second to a year. */
export function durationAtMost(name: string): (text: string) => number {
  return (text) => {
    const ms = Math.round(parseDurationMs(text, name));
    if (ms >= 1_000 && ms <= LONGEST_WAIT_MS) return ms;
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes from 1 s to 365 days, not '${text}'`, {
      hint: `${name} 90m; a bare number is seconds`,
    });
  };
}

/** Also nothing at all. */
export function durationOrNone(name: string): (text: string) => number {
  const atLeastASecond = durationAtMost(name);
  return (text) => (parseDurationMs(text, name) === 0 ? 0 : atLeastASecond(text));
}

export function graceSeconds(text: string): number {
  const ms = parseDurationMs(text, "--grace");
  if (ms >= SHORTEST_GRACE_MS && ms <= LONGEST_GRACE_MS) return Math.ceil(ms / 1_000);
  throw new FarpoolError("FARPOOL_USAGE", `--grace takes from 1 s to 24 hours, not '${text}'`, {
    hint: "a client that is without a connection for so long loses its work",
  });
}

export function expirySeconds(text: string): number {
  const ms = parseDurationMs(text, "--expires");
  if (ms >= 60_000 && ms <= LONGEST_WAIT_MS) return Math.floor(ms / 1_000);
  throw new FarpoolError("FARPOOL_USAGE", `--expires takes from 1 minute to 365 days, not '${text}'`, {
    hint: "a string that many machines use: --uses 50 --expires 1d",
  });
}

export function machineName(text: string): string {
  if (/^[\w][\w.-]{0,62}$/.test(text)) return text;
  const shown = text.replaceAll(/\p{Cc}/gu, "?");
  throw new FarpoolError("FARPOOL_USAGE", `--name takes 1 to 63 letters, digits or ._-, not '${shown}'`, {
    hint: null,
  });
}

/** Of a user or group of this machine, as it is written into files. */
export const ACCOUNT_NAME = /^[\w.@+-]{1,64}\$?$/;

export function accountName(name: string): (text: string) => string {
  return (text) => {
    if (ACCOUNT_NAME.test(text)) return text;
    const shown = text.slice(0, 80).replaceAll(/\p{Cc}/gu, "?");
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes a name of this machine's, not '${shown}'`, {
      hint: "'getent passwd' and 'getent group' list users and groups; several are given by repeating the option",
    });
  };
}

/** `HOST:PORT`, an IPv6 address in brackets. */
export function hostAndPort(
  name: string,
): (text: string) => { readonly host: string; readonly port: number } {
  return (text) => {
    const match = /^(?:\[([\da-fA-F:.]+)\]|([\w.-]+)):(\d{1,5})$/.exec(text);
    const [host, port] = [match?.[1] ?? match?.[2], Number(match?.[3])];
    if (host !== undefined && port >= 1 && port <= 65_535) return { host, port };
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes HOST:PORT, not '${text}'`, {
      hint: `${name} gpu-01.example.org:7445, or [2001:db8::1]:7445`,
    });
  };
}

/** A time that something lasts. */
export function lifetimeMs(name: string): (text: string) => number {
  return (text) => {
    const ms = Math.round(parseDurationMs(text, name));
    if (ms >= 1 && ms <= LONGEST_LIFETIME_MS) return ms;
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes from 1 ms to 3650 days, not '${text}'`, {
      hint: `without ${name} there is none`,
    });
  };
}

export function projectName(text: string): string {
  if (projectNameSchema.safeParse(text).success) return text;
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `--project takes 1 to 64 letters, digits or ._-, not '${printable(text)}'`,
    { hint: null },
  );
}

/** `NAME=VALUE`. */
export function labelPair(text: string): readonly [string, string] {
  const [name = "", ...rest] = text.split("=");
  const value = rest.join("=");
  const isGood =
    rest.length > 0 && labelNameSchema.safeParse(name).success && labelValueSchema.safeParse(value).success;
  if (isGood) return [name, value];
  throw new FarpoolError("FARPOOL_USAGE", `--label takes NAME=VALUE, not '${printable(text)}'`, {
    hint: "--label experiment=7; names and values have letters, digits and a few signs, 63 at most",
  });
}

const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, "?");

export function sessionName(text: string): string {
  if (sessionNameSchema.safeParse(text).success) return text;
  const shown = text.replaceAll(/\p{Cc}/gu, "?");
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `--name takes 1 to 64 letters, digits, spaces or ._@-, not '${shown}'`,
    { hint: null },
  );
}

export function wholeNumber(name: string, least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (number >= least && number <= most) return number;
    const range = most >= 100_000 ? `from ${least}` : `from ${least} to ${most}`;
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes a whole number ${range}, not '${text}'`, {
      hint: null,
    });
  };
}

export function duration(name: string): (text: string) => number {
  return (text) => parseDurationMs(text, name);
}

/** One of some words. */
export function oneOf<const T extends string>(name: string, words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((candidate) => candidate === text);
    if (word !== undefined) return word;
    throw new FarpoolError("FARPOOL_USAGE", `${name} is one of ${words.join(", ")}, not '${text}'`, {
      hint: null,
    });
  };
}

/** An amount of money, not below zero: `12.50` → 125000. */
export function amount(name: string): (text: string) => number {
  return (text) => {
    const units = parseAmount(text);
    if (units !== undefined && units >= 0) return units;
    throw new FarpoolError("FARPOOL_USAGE", `${name} is an amount with up to four decimals, not '${text}'`, {
      hint: "amounts look like 2, 2.50 or 0.0125; the currency is the pool's",
    });
  };
}

/** A moment, `2026-12-01T06:00Z`; without a zone it is this machine's. */
export function instant(name: string): (text: string) => string {
  return (text) => {
    const isMoment = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$/.test(text);
    // A date alone would be read as one of UTC.
    const at = isMoment ? new Date(text.length === 10 ? `${text}T00:00` : text) : new Date(Number.NaN);
    if (!Number.isNaN(at.getTime())) return at.toISOString();
    throw new FarpoolError("FARPOOL_USAGE", `${name} takes a date with its time, not '${text}'`, {
      hint: `${name} 2026-12-01T06:00Z, or without Z in this machine's time zone`,
    });
  };
}

/** `zone=b`. */
export function serverLabel(text: string): readonly [string, string] {
  const [, name = "", label = ""] = /^([^=]*)=(.*)$/.exec(text) ?? [];
  if (serverLabelsSchema.safeParse({ [name]: label }).success && name !== "") return [name, label];
  throw new FarpoolError(
    "FARPOOL_USAGE",
    `--label takes NAME=VALUE, not '${text.replaceAll(/\p{Cc}/gu, "?")}'`,
    {
      hint: "--label zone=b; a name has small letters, digits and ._/- and begins with a letter",
    },
  );
}

export function indexList(text: string): number[] {
  const parts = text.split(",");
  if (parts.some((part) => !/^\d+$/.test(part))) {
    throw new FarpoolError("FARPOOL_USAGE", `--gpus takes indexes, not '${text}'`, {
      hint: "--gpus 0,2 offers the first and the third GPU",
    });
  }
  return parts.map(Number);
}

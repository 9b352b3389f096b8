import { FarpoolError, parseDurationMs, sessionNameSchema } from "@farpool/contract";

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

export function indexList(text: string): number[] {
  const parts = text.split(",");
  if (parts.some((part) => !/^\d+$/.test(part))) {
    throw new FarpoolError("FARPOOL_USAGE", `--gpus takes indexes, not '${text}'`, {
      hint: "--gpus 0,2 offers the first and the third GPU",
    });
  }
  return parts.map(Number);
}

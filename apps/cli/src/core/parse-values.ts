import { FarpoolError, parseDurationMs, sessionNameSchema } from "@farpool/contract";

const LONGEST_WAIT_MS = 365 * 86_400_000;

export function waitMs(text: string): number {
  const ms = parseDurationMs(text, "--wait");
  if (ms <= LONGEST_WAIT_MS) return ms;
  throw new FarpoolError("FARPOOL_USAGE", `--wait takes 365 days at most, not '${text}'`, {
    hint: "without --wait a session waits as long as it takes",
  });
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

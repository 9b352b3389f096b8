import { FarpoolError } from "@farpool/contract";

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

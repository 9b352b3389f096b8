import { FarpoolError } from "./errors.ts";

const UNIT_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90` (seconds), `90s`, `10m`, `1h30m`, `0`. A refusal names the option, if it came from one. */
export function parseDurationMs(text: string, option?: string): number {
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1_000;
  let total = 0;
  let consumed = 0;
  for (const match of text.matchAll(/(\d+(?:\.\d+)?)(ms|min|s|m|h|d)/g)) {
    if (match.index !== consumed) break;
    total += Number(match[1]) * (UNIT_MS[match[2] ?? ""] ?? 0);
    consumed += match[0].length;
  }
  if (consumed === 0 || consumed !== text.length) {
    throw new FarpoolError(
      "FARPOOL_USAGE",
      `${option === undefined ? "" : `${option}: `}'${text}' is not a duration`,
      {
        hint: "durations look like 30s, 10m, 1h30m; a bare number is seconds",
      },
    );
  }
  return total;
}

/** `0.4 s`, `12 s`, `4 min 12 s`, `3 h 5 min`, `2 d 4 h`. */
export function formatDuration(ms: number): string {
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const pairs: ReadonlyArray<readonly [number, string, number, string]> = [
    [86_400, "d", 3_600, "h"],
    [3_600, "h", 60, "min"],
    [60, "min", 1, "s"],
  ];
  for (const [large, largeUnit, small, smallUnit] of pairs) {
    if (seconds < large) continue;
    const rest = Math.floor((seconds % large) / small);
    return rest === 0
      ? `${Math.floor(seconds / large)} ${largeUnit}`
      : `${Math.floor(seconds / large)} ${largeUnit} ${rest} ${smallUnit}`;
  }
  return `${seconds} s`;
}

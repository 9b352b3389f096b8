import { expect, test } from "vitest";
import { formatDuration, parseDurationMs } from "./durations.ts";

test.each([
  ["0", 0],
  ["90", 90_000],
  ["1.5", 1_500],
  ["250ms", 250],
  ["10m", 600_000],
  ["1h30m", 5_400_000],
  ["2d", 172_800_000],
])("%s is %i ms", (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each(["", "soon", "10 m", "-1", "5x", "m", "1h-5m"])("'%s' is no duration", (text) => {
  expect(() => parseDurationMs(text)).toThrow(/is not a duration/);
});

test.each([
  [400, "0.4 s"],
  [12_000, "12 s"],
  [252_000, "4 min 12 s"],
  [300_000, "5 min"],
  [11_100_000, "3 h 5 min"],
  [187_200_000, "2 d 4 h"],
])("%i ms are written as %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

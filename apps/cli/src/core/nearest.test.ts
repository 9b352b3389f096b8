import { expect, test } from "vitest";
import { nearest } from "./nearest.ts";

const NAMES = ["list", "show", "end", "extend"];

test.each([
  ["lst", "list"],
  ["hsow", "show"],
  ["shw", "show"],
  ["extnd", "extend"],
  ["ned", "end"],
  ["x", undefined],
  ["xyz", undefined],
  ["", undefined],
])("'%s' means %s", (typed, meant) => {
  expect(nearest(typed, NAMES)).toBe(meant);
});

import { expect, it } from "vitest";
import { isAllowed } from "./expression.ts";

const allowed = new Set(["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]);

it.each([
  ["MIT", true],
  ["GPL-3.0-only", false],
  ["MIT OR GPL-3.0-only", true],
  ["MIT AND GPL-3.0-only", false],
  ["(MIT OR Apache-2.0) AND Unicode-3.0", true],
  ["GPL-3.0-only OR (MIT AND Apache-2.0)", true],
  ["Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT", true],
  ["GPL-2.0-only WITH Classpath-exception-2.0", false],
  ["MIT/Apache-2.0", true],
  ["Unlicense/MIT", true],
  ["", false],
  ["MIT nonsense", false],
])("%s: %s", (expression, expected) => {
  expect(isAllowed(expression, allowed)).toBe(expected);
});

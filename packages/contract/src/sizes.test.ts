import { expect, test } from "vitest";
import { FarpoolError } from "./errors.ts";
import { formatBytes, formatGpus, formatRequest, parseMemory, parseShare } from "./sizes.ts";

const GIB = 1024 ** 3;
const H200 = { name: "NVIDIA H200", totalBytes: 140 * GIB };

test.each([
  ["0.5", { kind: "share", share: 0.5 }],
  [".25", { kind: "share", share: 0.25 }],
  ["1", { kind: "whole" }],
])("-p %s is a share", (text, size) => {
  expect(parseShare(text)).toEqual(size);
});

test.each(["0", "1.5", "-1", "half", "", "1e-3", "NaN"])("-p %s is refused", (text) => {
  expect(() => parseShare(text)).toThrow(FarpoolError);
});

test.each([
  ["4000", 4000],
  ["4GiB", 4096],
  ["4 GiB", 4096],
  ["4GB", 3814],
  ["1.5gib", 1536],
  ["1TiB", 1024 * 1024],
])("-m %s is %i MiB", (text, memoryMib) => {
  expect(parseMemory(text)).toEqual({ kind: "memory", memoryMib });
});

test.each(["0", "-4", "4 apples", "", "4KiB", "1e3", "99999999TiB"])("-m %s is refused", (text) => {
  expect(() => parseMemory(text)).toThrow(/-m takes an amount of memory/);
});

test.each([
  [[{ ...H200, limitBytes: null }], "1 × NVIDIA H200"],
  [[{ ...H200, limitBytes: 70 * GIB }], "½ × NVIDIA H200 (70 GiB)"],
  [[{ ...H200, limitBytes: 4 * GIB }], "0.03 × NVIDIA H200 (4 GiB)"],
  [[{ ...H200, limitBytes: 512 * 1024 ** 2 }], "<0.01 × NVIDIA H200 (512 MiB)"],
  [
    [
      { ...H200, limitBytes: 35 * GIB },
      { ...H200, limitBytes: 35 * GIB },
    ],
    "2 × ¼ × NVIDIA H200 (35 GiB each)",
  ],
  [
    [
      { ...H200, limitBytes: null },
      { name: "NVIDIA A100", totalBytes: 80 * GIB, limitBytes: null },
    ],
    "1 × NVIDIA H200 + 1 × NVIDIA A100",
  ],
])("GPUs are written the same everywhere", (parts, text) => {
  expect(formatGpus(parts)).toBe(text);
});

test("a request names what was asked for", () => {
  expect(formatRequest(2, { kind: "whole" })).toBe("2 GPUs");
  expect(formatRequest(1, { kind: "share", share: 0.5 })).toBe("½ of a GPU");
  expect(formatRequest(3, { kind: "memory", memoryMib: 4096 })).toBe("3 GPUs with 4 GiB each");
});

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1536, "1.5 KiB"],
  [70 * GIB, "70 GiB"],
  [143_771 * 1024 ** 2, "140 GiB"],
])("%i bytes", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

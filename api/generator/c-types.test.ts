import { expect, it } from "vitest";

import { pointee, rustType } from "./c-types.ts";

it.each([
  ["int", "i32"],
  ["size_t", "usize"],
  ["CUstream", "CUstream"],
  ["void *", "*mut c_void"],
  ["const char *", "*const c_char"],
  ["const char **", "*mut *const c_char"],
  ["void **", "*mut *mut c_void"],
  ["const CUgraphNode **", "*mut *const CUgraphNode"],
  ["unsigned char[16]", "[u8; 16]"],
])("spells the C type %s as %s", (c, rust) => {
  expect(rustType(c)).toBe(rust);
});

it("finds what a pointer points to", () => {
  expect(pointee("const CUlaunchConfig *")).toBe("CUlaunchConfig");
  expect(pointee("void **")).toBe("void *");
});

import { inout, input, noun, output, unsupported, type Noun } from "../model.ts";

export const coredump: Noun = noun("coredump", [
  unsupported("cuCoredumpGetAttribute", { id: 0x1d00, since: 12010 }, [
    input("attrib", "CUcoredumpSettings"),
    output("value", "void *"),
    inout("size", "size_t *"),
  ]),
  unsupported("cuCoredumpGetAttributeGlobal", { id: 0x1d01, since: 12010 }, [
    input("attrib", "CUcoredumpSettings"),
    output("value", "void *"),
    inout("size", "size_t *"),
  ]),
  unsupported("cuCoredumpSetAttribute", { id: 0x1d02, since: 12010 }, [
    input("attrib", "CUcoredumpSettings"),
    input("value", "void *"),
    inout("size", "size_t *"),
  ]),
  unsupported("cuCoredumpSetAttributeGlobal", { id: 0x1d03, since: 12010 }, [
    input("attrib", "CUcoredumpSettings"),
    input("value", "void *"),
    inout("size", "size_t *"),
  ]),
]);

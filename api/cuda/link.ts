import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const link: Noun = noun("link", [
  unsupported("cuLinkAddData", { id: 0x1700, since: 5050 }, [
    input("state", "CUlinkState"),
    input("type", "CUjitInputType"),
    input("data", "void *", { length: "size" }),
    input("size", "size_t"),
    input("name", "const char *"),
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
  ]),
  unsupported("cuLinkAddData_v2", { id: 0x1701, since: 6050 }, [
    input("state", "CUlinkState"),
    input("type", "CUjitInputType"),
    input("data", "void *", { length: "size" }),
    input("size", "size_t"),
    input("name", "const char *"),
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
  ]),
  unsupported("cuLinkAddFile", { id: 0x1702, since: 5050 }, [
    input("state", "CUlinkState"),
    input("type", "CUjitInputType"),
    input("path", "const char *"),
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
  ]),
  unsupported("cuLinkAddFile_v2", { id: 0x1703, since: 6050 }, [
    input("state", "CUlinkState"),
    input("type", "CUjitInputType"),
    input("path", "const char *"),
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
  ]),
  unsupported("cuLinkComplete", { id: 0x1704, since: 5050 }, [
    input("state", "CUlinkState"),
    output("cubinOut", "void **"),
    output("sizeOut", "size_t *"),
  ]),
  unsupported("cuLinkCreate", { id: 0x1705, since: 5050 }, [
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
    output("stateOut", "CUlinkState *"),
  ]),
  unsupported("cuLinkCreate_v2", { id: 0x1706, since: 6050 }, [
    input("numOptions", "unsigned int"),
    input("options", "CUjit_option *", { nullable: true, length: "numOptions" }),
    input("optionValues", "void **", { nullable: true, length: "numOptions" }),
    output("stateOut", "CUlinkState *"),
  ]),
  unsupported("cuLinkDestroy", { id: 0x1707, since: 5050 }, [input("state", "CUlinkState")]),
]);

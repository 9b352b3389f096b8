import { expect, test } from "vitest";

import { input, output } from "../model.ts";
import { answered, nvmlNoun } from "../nvml/model.ts";
import { compareNvml, readNvmlHeader } from "./nvml-header.ts";
import { loadNvmlSchema } from "./nvml-schema.ts";

// Written for this test in the manner of nvml.h.
const prototypes = readNvmlHeader(`
#define nvmlThingGet nvmlThingGet_v2
/** nvmlReturn_t DECLDIR nvmlInComment(void); */
nvmlReturn_t DECLDIR nvmlThingGet(nvmlDevice_t device, char *name,
                                  unsigned length);
nvmlReturn_t  DECLDIR nvmlThingStart(void);
const DECLDIR char* nvmlThingName(nvmlReturn_t result);
nvmlReturn_t DECLDIR nvmlThingList(nvmlDevice_t device, unsigned int counts[NVML_MOST]);
`);

test("a header's prototypes are read, whatever they return", () => {
  expect(prototypes).toEqual([
    { symbol: "nvmlThingGet", types: ["nvmlDevice_t", "char *", "unsigned int"] },
    { symbol: "nvmlThingStart", types: [] },
    { symbol: "nvmlThingName", types: ["nvmlReturn_t"] },
    { symbol: "nvmlThingList", types: ["nvmlDevice_t", "unsigned int *"] },
  ]);
});

test("what is missing, not declared or declared differently is named", () => {
  const get = answered("nvmlThingGet", [input("device", "nvmlDevice_t"), output("name", "char *")]);
  const schema = loadNvmlSchema([
    nvmlNoun("things", [get], ["nvmlThingStart", "nvmlThingName", "nvmlThingGone"]),
  ]);
  expect(compareNvml(schema, prototypes)).toEqual([
    "nvml.h declares nvmlThingList, which is in none of the lists of api/nvml",
    "nvmlThingGone is described, nvml.h does not declare it",
    "nvmlThingGet is described as (nvmlDevice_t, char *), nvml.h declares (nvmlDevice_t, char *, unsigned int)",
  ]);
});

test("a symbol is in one list only", () => {
  const noun = nvmlNoun("things", [answered("nvmlThingStart", [])], ["nvmlThingStart"]);
  expect(() => loadNvmlSchema([noun])).toThrow("nvmlThingStart is described twice");
});

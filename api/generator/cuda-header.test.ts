import { describe, expect, it } from "vitest";

import { creates, input, oneWay, output, waiting } from "../model.ts";
import { readCudaHeader } from "./cuda-header.ts";
import { loadSchema } from "./schema.ts";
import { compare } from "./toolkit.ts";

// Written for this test in the manner of cuda.h.
const header = readCudaHeader(`
#define CUDA_VERSION 13000
#define cuThingMake cuThingMake_v2
#if defined(__CUDA_API_PER_THREAD_DEFAULT_STREAM)
    #define cuThingWait __CUDA_API_PTSZ(cuThingWait)
#endif
/** CUresult CUDAAPI cuInComment(int x); */
CUresult CUDAAPI cuThingMake(CUevent *phThing,
                             unsigned Flags);
CUresult CUDAAPI cuThingWait(CUstream hStream, const char* *text);
#if defined(__CUDA_API_VERSION_INTERNAL)
    #undef cuThingMake
    CUresult CUDAAPI cuThingMake(CUevent *phThing);
    CUresult CUDAAPI cuThingWait(CUstream hStream, const char **text);
#elif defined(OTHER)
static inline CUresult cuNotExported(int x) { return 0; }
#endif
`);

const make = oneWay("cuThingMake", { id: 300, since: 2000 }, [creates("phThing", "CUevent *")]);
const makeAgain = oneWay("cuThingMake_v2", { id: 301, since: 3000 }, [
  creates("phThing", "CUevent *"),
  input("Flags", "unsigned int"),
]);
const wait = waiting("cuThingWait", { id: 302, since: 2000, perThread: { suffix: "ptsz", since: 7000 } }, [
  input("hStream", "CUstream"),
  output("text", "const char **"),
]);

describe("comparing the description with a header", () => {
  it("reads names, types, older ABIs and per-thread forms", () => {
    expect(header.version).toBe(13000);
    expect([...header.prototypes.keys()].toSorted()).toEqual([
      "cuThingMake",
      "cuThingMake_v2",
      "cuThingWait",
    ]);
    expect(header.prototypes.get("cuThingMake_v2")?.types).toEqual(["CUevent *", "unsigned int"]);
    expect(header.perThread.get("cuThingWait")).toBe("ptsz");
  });

  it("finds nothing to say about an equal description", () => {
    expect(compare(loadSchema([make, makeAgain, wait]), header)).toEqual([]);
  });

  it("names what is missing, different and too much", () => {
    const { perThread: _, ...withoutVariant } = wait;
    const extra = waiting("cuThingExtra", { id: 303, since: 2000 }, []);
    expect(compare(loadSchema([{ ...makeAgain, parameters: [] }, withoutVariant, extra]), header)).toEqual([
      "cuThingMake_v2 is described as (), cuda.h declares (CUevent *, unsigned int)",
      "cuda.h declares cuThingMake, which is not described",
      "cuThingWait is described with the variant none, cuda.h has ptsz",
      "cuThingExtra is described, cuda.h does not declare it",
    ]);
  });
});

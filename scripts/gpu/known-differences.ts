/** Errors of one scenario of error-parity: what was done and by which call. */
type Known = readonly string[];

const unlikeTheHeader = "the simulated GPU is laxer than cuda.h says";
export const notRemoted = "the call is not remoted yet";
const destroyed = "what is asked first of a destroyed context";
const destroysAfterFault =
  "the simulated GPU lets go of objects of a faulty context, the client answers its error; a real GPU must decide";

/** What may differ today, by scenario and reason. A line that has become equal is taken out of here. */
export const scenarios: Readonly<Record<string, Readonly<Record<string, Known>>>> = {
  "before-init": {},
  devices: { [unlikeTheHeader]: ["never retained: cuDevicePrimaryCtxRelease_v2"] },
  "no-context": {},
  memory: {},
  "host-memory": {},
  pointers: { [unlikeTheHeader]: ["none: cuPointerGetAttributes"] },
  "streams-and-events": {},
  handles: {},
  launches: {
    [unlikeTheHeader]: ["parameters twice: cuLaunchKernel"],
  },
  modules: {
    [unlikeTheHeader]: [
      "options without values: cuModuleLoadDataEx",
      "no places: cuModuleGetGlobal_v2",
      "freeing a variable: cuMemFree_v2",
    ],
    [notRemoted]: ["no such variable: cuLibraryGetManaged"],
  },
  "out-of-memory": {},
  pools: {},
  capture: {},
  contexts: {
    [destroyed]: [
      "stream of a destroyed context: cuStreamSynchronize",
      "event of a destroyed context: cuEventQuery",
      "current after destroying it: cuCtxGetDevice",
      "event of a destroyed context: cuEventDestroy_v2",
      "destroyed below the top: cuCtxGetDevice",
    ],
  },
  peers: { [unlikeTheHeader]: ["null context: cuMemcpyPeer"] },
  runtime: {},
  "illegal-store": {},
  "illegal-load": {},
  "illegal-atomic": {},
  misaligned: {},
  assert: {},
  trap: {},
  "shared-out-of-range": {},
  "fault-in-own-context": {
    [destroysAfterFault]: ["after: cuStreamDestroy_v2", "after: cuEventDestroy_v2", "after: cuModuleUnload"],
  },
};

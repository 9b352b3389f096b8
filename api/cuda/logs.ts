import { inout, input, noun, output, unsupported, type Noun } from "../model.ts";

export const logs: Noun = noun("logs", [
  unsupported("cuLogsCurrent", { id: 0x1f00, since: 12090 }, [
    output("iterator_out", "CUlogIterator *"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuLogsDumpToFile", { id: 0x1f01, since: 12090 }, [
    inout("iterator", "CUlogIterator *"),
    input("pathToFile", "const char *"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuLogsDumpToMemory", { id: 0x1f02, since: 12090 }, [
    inout("iterator", "CUlogIterator *"),
    output("buffer", "char *"),
    inout("size", "size_t *"),
    input("flags", "unsigned int"),
  ]),
  unsupported("cuLogsRegisterCallback", { id: 0x1f03, since: 12090 }, [
    input("callbackFunc", "CUlogsCallback"),
    input("userData", "void *"),
    output("callback_out", "CUlogsCallbackHandle *"),
  ]),
  unsupported("cuLogsUnregisterCallback", { id: 0x1f04, since: 12090 }, [
    input("callback", "CUlogsCallbackHandle"),
  ]),
]);

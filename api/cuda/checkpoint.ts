import { input, noun, output, unsupported, type Noun } from "../model.ts";

export const checkpoint: Noun = noun("checkpoint", [
  unsupported("cuCheckpointProcessCheckpoint", { id: 0x1e00, since: 12080 }, [
    input("pid", "int"),
    input("args", "CUcheckpointCheckpointArgs *"),
  ]),
  unsupported("cuCheckpointProcessGetRestoreThreadId", { id: 0x1e01, since: 12080 }, [
    input("pid", "int"),
    output("tid", "int *"),
  ]),
  unsupported("cuCheckpointProcessGetState", { id: 0x1e02, since: 12080 }, [
    input("pid", "int"),
    output("state", "CUprocessState *"),
  ]),
  unsupported("cuCheckpointProcessLock", { id: 0x1e03, since: 12080 }, [
    input("pid", "int"),
    input("args", "CUcheckpointLockArgs *"),
  ]),
  unsupported("cuCheckpointProcessRestore", { id: 0x1e04, since: 12080 }, [
    input("pid", "int"),
    input("args", "CUcheckpointRestoreArgs *"),
  ]),
  unsupported("cuCheckpointProcessUnlock", { id: 0x1e05, since: 12080 }, [
    input("pid", "int"),
    input("args", "CUcheckpointUnlockArgs *"),
  ]),
]);

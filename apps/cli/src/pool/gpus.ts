import { formatBytes } from "@farpool/contract";
import { print, printJson, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function gpus(isJson: boolean): Promise<number> {
  const list = await withPool((client) => client.call("listGpus", {}));
  if (isJson) {
    printJson(list);
    return 0;
  }
  if (list.gpus.length === 0) {
    print("the pool has no GPUs");
    return 0;
  }
  const rows = list.gpus.map((gpu) => [
    gpu.serverName,
    String(gpu.index),
    gpu.name,
    formatBytes(gpu.memoryTotalBytes),
    gpu.wholeFree ? "whole" : formatBytes(gpu.memoryFreeBytes),
    String(gpu.sessions.length),
    gpu.present ? gpu.serverState : "gone",
    gpu.uuid,
  ]);
  print(table(["SERVER", "GPU", "NAME", "MEMORY", "FREE", "SESSIONS", "STATE", "UUID"], rows));
  return 0;
}

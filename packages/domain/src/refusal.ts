import { FarpoolError, formatBytes, formatGpus, formatRequest, type Size } from "@farpool/contract";
import { limitOn, toPart, type ServerCapacity } from "./capacity.ts";
import { fitsEver, type Wish } from "./placement.ts";

/** What can never be granted is refused at once, naming the largest that could. */
export function refusalOf(wish: Wish, servers: readonly ServerCapacity[]): FarpoolError | undefined {
  if (fitsEver(wish, servers)) return undefined;
  const gpus = servers.flatMap((server) => server.gpus);
  if (gpus.length === 0) {
    return new FarpoolError("FARPOOL_NEVER_FITS", "the pool has no GPUs", {
      hint: "'farpool status' shows the servers of the pool",
    });
  }
  const wished = formatRequest(wish.count, wish.size);
  const largest = largestGpu(servers);
  if (wish.size.kind === "memory" && gpus.every((gpu) => limitOn(gpu, wish.size) === undefined)) {
    return new FarpoolError(
      "FARPOOL_SIZE_TOO_LARGE",
      `${wished}: the largest GPU of the pool is ${formatGpus([toPart(largest, null)])} (${formatBytes(largest.totalBytes)})`,
      { hint: `the largest value is -m ${Math.floor(largest.totalBytes / (1024 * 1024))}` },
    );
  }
  return new FarpoolError(
    "FARPOOL_NEVER_FITS",
    `${wished} on one server: the largest session of this size that the pool can ever grant is ${largestCount(wish.size, servers)}`,
  );
}

function largestGpu(servers: readonly ServerCapacity[]) {
  return servers.flatMap((server) => server.gpus).reduce((a, b) => (b.totalBytes > a.totalBytes ? b : a));
}

function largestCount(size: Size, servers: readonly ServerCapacity[]): string {
  const perServer = servers.map((server) =>
    server.gpus.flatMap((gpu) => {
      const limit = limitOn(gpu, size);
      return limit === undefined ? [] : [toPart(gpu, limit)];
    }),
  );
  return formatGpus(perServer.reduce((a, b) => (b.length > a.length ? b : a)));
}

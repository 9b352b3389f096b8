import { FarpoolError, formatBytes, formatGpus, formatRequest } from "@farpool/contract";
import { limitOn, toPart, type GpuCapacity, type ServerCapacity } from "./capacity.ts";
import { matches, matchesAll } from "./filters.ts";
import { fitsEver } from "./placement.ts";
import { mayBeSpread, MOST_SERVERS, type Wish } from "./wish.ts";

/** What can never be granted is refused at once, naming the largest that could. */
export function refusalOf(wish: Wish, servers: readonly ServerCapacity[]): FarpoolError | undefined {
  if (fitsEver(wish, servers)) return undefined;
  if (servers.every(({ gpus }) => gpus.length === 0)) {
    return new FarpoolError("FARPOOL_NEVER_FITS", "the pool has no GPUs", {
      hint: "'farpool status' shows the servers of the pool",
    });
  }
  const { filters = [] } = wish;
  const fitting = servers.map((server) => server.gpus.filter((gpu) => matchesAll(filters, server, gpu)));
  const gpus = fitting.flat();
  if (gpus.length === 0) return nothingMatches(wish, servers);
  const such = filters.length === 0 ? "" : ` (${filters.map(({ text }) => text).join(", ")})`;
  const wished = `${formatRequest(wish.count, wish.size)}${such}`;
  if (wish.size.kind === "memory" && gpus.every((gpu) => limitOn(gpu, wish.size) === undefined)) {
    const largest = gpus.reduce((a, b) => (b.totalBytes > a.totalBytes ? b : a));
    return new FarpoolError(
      "FARPOOL_SIZE_TOO_LARGE",
      `${wished}: the largest GPU of the pool is ${formatGpus([toPart(largest, null)])} (${formatBytes(largest.totalBytes)})`,
      { hint: `the largest value is -m ${Math.floor(largest.totalBytes / (1024 * 1024))}` },
    );
  }
  const isSpread = mayBeSpread(wish);
  const widest = fitting.toSorted((a, b) => b.length - a.length).slice(0, MOST_SERVERS);
  const most = largestCount(wish, isSpread ? [widest.flat()] : fitting);
  const where = isSpread ? "" : " on one server";
  return new FarpoolError(
    "FARPOOL_NEVER_FITS",
    `${wished}${where}: the largest session of this size that the pool can ever grant is ${most}`,
  );
}

/** Names the filter that no GPU passes, or says that each has some and all together none. */
function nothingMatches({ filters = [] }: Wish, servers: readonly ServerCapacity[]): FarpoolError {
  const alone = filters.find((filter) =>
    servers.every((server) => !server.gpus.some((gpu) => matches(filter, server, gpu))),
  );
  const sentence =
    alone === undefined
      ? `no GPU of the pool has ${filters.map(({ text }) => text).join(" and ")} at once`
      : `no GPU of the pool has ${alone.text}`;
  return new FarpoolError("FARPOOL_NEVER_FITS", sentence);
}

function largestCount({ size }: Wish, perServer: ReadonlyArray<readonly GpuCapacity[]>): string {
  const parts = perServer.map((gpus) =>
    gpus.flatMap((gpu) => {
      const limit = limitOn(gpu, size);
      return limit === undefined ? [] : [toPart(gpu, limit)];
    }),
  );
  return formatGpus(parts.reduce((a, b) => (b.length > a.length ? b : a)));
}

import { FarpoolError, formatRequest, parseFilter, type SessionRequest } from "@farpool/contract";
import { refusalOf, type ServerCapacity, type Wish } from "@farpool/domain";

/** What is refused whoever asks: what we cannot serve, and what will never fit. */
export function requireAdmissible(request: SessionRequest, servers: readonly ServerCapacity[]): void {
  if (request.spreadServers) {
    throw new FarpoolError(
      "FARPOOL_NOT_SUPPORTED",
      `${formatRequest(request.count, request.size)} on several servers (--spread-servers): a program reaches the GPUs of one server only, so far`,
      {
        hint: "without --spread-servers all GPUs come from one server; 'farpool gpus' shows how many each has",
      },
    );
  }
  const refusal = refusalOf(wishOf(request), servers);
  if (refusal !== undefined) throw refusal;
}

export function wishOf({
  count,
  size,
  filters,
}: Pick<SessionRequest, "count" | "size" | "filters">): Wish & Required<Pick<Wish, "filters">> {
  return { count, size, filters: filters.map(parseFilter) };
}

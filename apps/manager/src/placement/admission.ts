import { FarpoolError, parseFilter, type SessionRequest } from "@farpool/contract";
import { refusalOf, type ServerCapacity, type Wish } from "@farpool/domain";

/** What cannot be served and what will never fit is refused whoever asks. */
export function requireAdmissible(request: SessionRequest, servers: readonly ServerCapacity[]): void {
  if (request.purpose === "service" && request.spreadServers)
    throw new FarpoolError(
      "FARPOOL_NOT_SUPPORTED",
      "a client service gets the GPUs of one server: spreadServers was true",
      {
        hint: "leave spreadServers out; 'farpool run --spread-servers' is for one program",
      },
    );
  const refusal = refusalOf(wishOf(request), servers);
  if (refusal !== undefined) throw refusal;
}

export function wishOf({
  count,
  size,
  filters,
  spreadServers,
}: Pick<SessionRequest, "count" | "size" | "filters" | "spreadServers">): Wish &
  Required<Pick<Wish, "filters">> {
  return { count, size, filters: filters.map(parseFilter), spreadServers };
}

import { parseFilter, type SessionRequest } from "@farpool/contract";
import { refusalOf, type ServerCapacity, type Wish } from "@farpool/domain";

/** What will never fit is refused whoever asks. */
export function requireAdmissible(request: SessionRequest, servers: readonly ServerCapacity[]): void {
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

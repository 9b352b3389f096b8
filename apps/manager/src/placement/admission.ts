import {
  DEFAULT_PRIORITY,
  FarpoolError,
  formatRequest,
  parseFilter,
  type SessionRequest,
} from "@farpool/contract";
import { refusalOf, type ServerCapacity, type Wish } from "@farpool/domain";

/** What a request may have at most, until policies say more: everybody may be modest. */
export const PERMITTED_PRIORITY = DEFAULT_PRIORITY;

/** What is refused before it is queued: what nobody may have, what we cannot serve, what will never fit. */
export function requireAdmissible(
  request: SessionRequest,
  servers: readonly ServerCapacity[],
  permittedPriority = PERMITTED_PRIORITY,
): void {
  if (request.priority > permittedPriority) {
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `priority ${request.priority} is above ${permittedPriority}, the highest that you may ask for`,
      { hint: `--priority ${permittedPriority} or less; an administrator of the pool may permit more` },
    );
  }
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

function wishOf({ count, size, filters }: SessionRequest): Wish {
  return { count, size, filters: filters.map(parseFilter) };
}

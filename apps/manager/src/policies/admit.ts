import {
  FarpoolError,
  formatBytes,
  formatRequest,
  MIB,
  type SessionRequest,
  type Size,
  type PolicyUserSource,
} from "@farpool/contract";
import { fitsEver, limitOn, matchesAll, type ServerCapacity } from "@farpool/domain";
import { thumbprintOf } from "@farpool/identity";
import {
  judge,
  judgeService,
  refuse,
  formatRequirements,
  refuseService,
  resolvePolicies,
  type ClientNames,
  type Terms,
  type Rules,
} from "@farpool/policies";
import type { Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { recordAudit } from "../identity/audit.ts";
import { findMapped, personOf } from "../identity/persons.ts";
import { wishOf } from "../placement/admission.ts";
import { allowedServers, withinLimits, type PlacementLimits } from "./allowed-servers.ts";
import { countHoldings, type LivingSession } from "./holdings.ts";
import type { Situation } from "./situation.ts";
import type { Asker } from "./subject.ts";

interface Application {
  readonly request: SessionRequest;
  readonly asker: Asker;
  readonly situation: Situation;
  /** Of the same user, client or project, at this moment. */
  readonly living: readonly LivingSession[];
  readonly servers: readonly ServerCapacity[];
}

export interface Admission extends Terms {
  readonly user: string;
  readonly source: PolicyUserSource;
  readonly limits: PlacementLimits;
}

/**
 * What policies allow of a request, or a refusal. In the placement transaction: what is counted here stays true until
 * the session is there.
 */
export function admitRequest({ request, asker, situation, living, servers }: Application): Admission {
  const { count, purpose, project } = request;
  const { clientKey } = asker;
  const { groups, policies, specification } = situation;
  // As it is called from this request on.
  const names: ClientNames = new Map([[clientKey, request.client.host]]);
  const subject = { user: asker.user, source: asker.source, client: clientKey, groups, project };
  const policy = resolvePolicies(policies, subject);
  const mine = living.filter((session) => session.client === clientKey);
  const clientName = names.get(clientKey) ?? clientKey;
  judgeService(request, {
    client: clientName,
    specification,
    service: firstOf(mine, (session) => session.purpose === "service"),
    other: firstOf(mine, (session) => session.purpose !== "service"),
    isWithin: (asked, most) => isWithin(asked, most, servers),
  });
  const held = countHoldings(policy, subject, living);
  const wish = wishOf(request);
  const least = leastMemory(wish, servers);
  const rules = { policy, names };
  const terms = judge(
    rules,
    {
      ...{ purpose, count },
      memoryMib: Math.ceil(least / MIB),
      priority: request.priority,
      waitMs: request.waitMs,
      idleTimeoutMs: request.idleTimeoutMs,
      maxDurationMs: request.maxDurationMs,
    },
    held,
  );
  const service = purpose === "service" ? specification : null;
  const requirements = [...(policy.servers.value ?? []), ...(service?.filter ?? [])];
  const memoryMib = policy.memoryMib.value;
  const limits = {
    servers: requirements.length === 0 ? null : requirements,
    memoryBytes: memoryMib === null ? null : (memoryMib - held.memoryMib.memoryMib) * MIB,
  };
  const place = { wish, limits, servers, rules };
  if (!requirePlace(place))
    throw refuseService(
      { client: clientName, isSpecified: true },
      {
        title: "servers of the service",
        asked: unplaceable(wish),
        allowed: formatRequirements(requirements),
      },
    );
  return {
    ...terms,
    limits,
    idleTimeoutMs: request.idleTimeoutMs ?? shortest(terms.idleTimeoutMs, service?.idleTimeoutMs ?? null),
    user: subject.user,
    source: subject.source,
  };
}

const firstOf = (
  sessions: readonly LivingSession[],
  isMeant: (session: LivingSession) => boolean,
): string | null => sessions.find(isMeant)?.id ?? null;

const shortest = (a: number | null, b: number | null): number | null =>
  a === null || b === null ? (a ?? b) : Math.min(a, b);

interface Place {
  readonly wish: ReturnType<typeof wishOf>;
  readonly limits: PlacementLimits;
  readonly servers: readonly ServerCapacity[];
  readonly rules: Rules;
}

/**
 * What could never be placed within the policies is refused now, and does not wait for ever. False: the policies would
 * allow it, but not what the service's specification says of servers.
 */
function requirePlace({ wish, limits, servers, rules }: Place): boolean {
  const allowed = allowedServers(servers);
  const canBe = (within: PlacementLimits): boolean => fitsEver(withinLimits(wish, within, allowed), servers);
  if (!canBe({ servers: rules.policy.servers.value, memoryBytes: null }))
    throw refuse(rules, { field: "servers", asked: unplaceable(wish) });
  if (!canBe({ servers: limits.servers, memoryBytes: null })) return false;
  if (!canBe(limits)) {
    const allowedText = `${formatBytes(Math.max(0, limits.memoryBytes ?? 0))} beside what is held already`;
    throw refuse(rules, {
      field: "memoryMib",
      asked: `${formatRequest(wish.count, wish.size)}, which can take more of every server`,
      allowed: allowedText,
    });
  }
  return true;
}

function unplaceable({ count, size, spreadServers }: Place["wish"]): string {
  const nobody =
    spreadServers === true ? "the allowed servers together do not have" : "no allowed server has";
  return `${formatRequest(count, size)}, which ${nobody}`;
}

/** The least that a session of this size takes of any GPU that could hold it. */
function leastMemory({ count, size, filters }: Place["wish"], servers: readonly ServerCapacity[]): number {
  const limits = servers.flatMap((server) =>
    server.gpus.flatMap((gpu) => {
      const limit = limitOn(gpu, size);
      return limit === undefined || !matchesAll(filters, server, gpu) ? [] : [limit ?? gpu.totalBytes];
    }),
  );
  return limits.length === 0 ? 0 : count * Math.min(...limits);
}

function isWithin(size: Size, most: Size, servers: readonly ServerCapacity[]): boolean {
  return servers.every(({ gpus }) =>
    gpus.every((gpu) => {
      const [asked, allowed] = [limitOn(gpu, size), limitOn(gpu, most)];
      // A GPU that is too small for what is asked is not taken.
      if (asked === undefined || allowed === null) return true;
      return asked !== null && allowed !== undefined && asked <= allowed;
    }),
  );
}

/** Its own transaction: the one that refused leaves no trace. */
export async function auditRefusal(
  db: Database,
  { request, caller }: { readonly request: SessionRequest; readonly caller: Principal },
  error: unknown,
): Promise<void> {
  if (!(error instanceof FarpoolError) || error.code !== "FARPOOL_POLICY") return;
  const clientKey = thumbprintOf(request.clientKey);
  const person = personOf(request.client.user, await findMapped(db, clientKey, request.client.user), caller);
  await recordAudit(db, {
    kind: "policy-refused",
    clientKey,
    reason: `${person.name}@${request.client.host}, ${request.purpose}: ${error.message}`,
  });
}

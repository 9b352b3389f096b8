import { randomBytes, randomInt } from "node:crypto";
import {
  FarpoolError,
  formatRequest,
  newSessionId,
  TIMES,
  type GpuUuid,
  type Session,
  type SessionId,
  type SessionRequest,
  type Thumbprint,
} from "@farpool/contract";
import type { WaitingSession } from "@farpool/domain";
import { thumbprintOf } from "@farpool/identity";
import { sql, type InsertObject } from "kysely";
import { inPlacement, jsonOrNull, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import type { Schema } from "../database/schema.ts";
import { THE_MANAGER, type Principal } from "../http/principal.ts";
import { introduceClient, readTrust, requireTrusted } from "../identity/clients.ts";
import { personOf, type Person } from "../identity/persons.ts";
import { requireAdmissible, wishOf } from "../placement/admission.ts";
import { readCapacityAnd } from "../placement/capacity.ts";
import { grantAlone, runPlacementPass } from "../placement/pass.ts";
import { admitRequest, auditRefusal, type Admission } from "../policies/admit.ts";
import { allowedServers, withinLimits } from "../policies/allowed-servers.ts";
import { livingColumn, readSituation, toLiving, type Situation } from "../policies/situation.ts";
import { askerOf, type Asker } from "../policies/subject.ts";
import { storedProgram } from "../privacy/settings.ts";
import type { SpentBudget } from "../usage/budgets.ts";
import { requireBudget, spentBudget } from "../usage/queue.ts";
import { readSession } from "./read.ts";

/** PostgreSQL's code where a row is there already. */
const UNIQUE_VIOLATION = "23505";

/** A session that comes back within this time prefers the GPUs that it had. */
const STICKY_MS = 86_400_000;

/**
 * Grants, queues or refuses. What a request is judged by is read before its turn comes, and what its budgets have spent is
 * added up there; what depends on others is one transaction, so a request that fits never waits for the next pass.
 */
export async function createSession(
  db: Database,
  asked: SessionRequest,
  caller: Principal = THE_MANAGER,
): Promise<Session> {
  // A client that has joined has the name that it joined with, whatever it says.
  const host = caller.machine?.role === "client" ? caller.machine.name : asked.client.host;
  const request = { ...asked, client: { ...asked.client, host } };
  try {
    const applicant = await meet(db, request, caller);
    return await inPlacement(db, (tx) => create(tx, request, applicant));
  } catch (error) {
    const before = await askedBefore(db, request, error);
    if (before !== undefined) return before;
    await auditRefusal(db, { request, caller }, error);
    throw error;
  }
}

/** The session that the same client asked for by the same id: a manager may have died before it answered. */
async function askedBefore(
  db: Database,
  { id, clientKey }: SessionRequest,
  error: unknown,
): Promise<Session | undefined> {
  if (id === undefined) return undefined;
  // What was granted then may be why it is refused now.
  const session = await readSession(db, id).catch(() => undefined);
  if (session === undefined) return undefined;
  if (session.clientKey === thumbprintOf(clientKey)) return session;
  if (!isTaken(error)) return undefined;
  throw new FarpoolError("FARPOOL_CONFLICT", `there is a session ${id} already, of another client`, {
    hint: "another id, or none: then the manager chooses it",
  });
}

function isTaken(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    error.code === UNIQUE_VIOLATION &&
    "constraint" in error &&
    error.constraint === "sessions_pkey"
  );
}

/** Who asks, and what is known of them. */
interface Applicant {
  readonly person: Person;
  readonly asker: Asker;
  readonly situation: Situation;
  readonly spent: SpentBudget | undefined;
}

async function meet(db: Database, request: SessionRequest, caller: Principal): Promise<Applicant> {
  const { client, project } = request;
  const clientKey = thumbprintOf(request.clientKey);
  const situation = await readSituation(db, {
    ...{ clientKey, account: client.user, host: client.host, project },
    signedIn: caller.user?.name ?? null,
  });
  requireTrusted(clientKey, situation.client);
  const person = personOf(client.user, situation.mapped, caller);
  const asker = askerOf(request, person, clientKey);
  const spent = await spentBudget(db, { user: asker.user, project }, situation.budgets);
  return { person, asker, situation, spent };
}

async function create(tx: Tx, request: SessionRequest, applicant: Applicant): Promise<Session> {
  const { person, asker, situation, spent: budget } = applicant;
  const { clientKey } = asker;
  const { servers, also } = await readCapacityAnd(tx, livingColumn(asker));
  requireAdmissible(request, servers);
  const living = (also ?? []).map((each) => toLiving(each, servers));
  const admitted = admitRequest({ request, asker, situation, living, servers });
  requireBudget(budget);
  if (situation.client === undefined) await introduceClient(tx, request.clientKey, request.client);
  const id = request.id ?? newSessionId(randomInt);
  const { session: fresh, othersWait } = await insertSession(tx, {
    id,
    request,
    clientKey,
    person,
    admitted,
    budget,
  });
  const placed = withinLimits(fresh, admitted.limits, allowedServers(servers));
  if (othersWait) await runPlacementPass(tx, { servers });
  else if (!(await grantAlone(tx, placed, servers))) await runPlacementPass(tx, { servers, isFull: true });
  const session = await readSession(tx, id);
  if (session.state === "queued" && admitted.waitMs === 0) {
    // Thrown inside the transaction: a session that would not wait leaves no trace in the queue.
    const asked = formatRequest(request.count, request.size);
    throw new FarpoolError("FARPOOL_WAIT_OVER", `${asked}: waited 0 s, none is free now`, {
      hint: `it would be at position ${session.queue?.position ?? 1} of the queue`,
    });
  }
  return session;
}

interface NewSession {
  readonly id: SessionId;
  readonly request: SessionRequest;
  readonly clientKey: Thumbprint;
  readonly person: Person;
  readonly admitted: Admission;
  readonly budget: SpentBudget | undefined;
}

interface Inserted {
  readonly session: WaitingSession;
  /** It is not alone in the queue. */
  readonly othersWait: boolean;
}

/** The session, its client's news and its first event in one statement, which also tells what placement has to know. */
async function insertSession(tx: Tx, made: NewSession): Promise<Inserted> {
  const { id, request, person, admitted, budget, clientKey } = made;
  const { host, user } = request.client;
  const asked = `${formatRequest(request.count, request.size)} for ${person.name}@${host}`;
  const reason = budget === undefined ? asked : `${asked}; ${budget.sentence}`;
  const row = await tx
    .with("met", (context) =>
      context
        .updateTable("clients")
        .set({ name: host, account: user, last_seen_at: now() })
        .where("thumbprint", "=", clientKey)
        .where("revoked_at", "is", null)
        .returning("thumbprint"),
    )
    .with("session", (context) =>
      context
        .insertInto("sessions")
        .values(columnsOf(made))
        .returning(["id", "preferred_gpus", "queue_number", "requested_at"]),
    )
    .insertInto("session_events")
    .expression((eb) =>
      eb.selectFrom("session").select(["id", sql.lit("requested").as("state"), sql.val(reason).as("reason")]),
    )
    .columns(["session_id", "state", "reason"])
    .returning([
      sql<boolean>`exists (select from met)`.as("is_met"),
      sql<GpuUuid[] | null>`(select preferred_gpus from session)`.as("preferred"),
      sql<number>`(select queue_number from session)`.as("queue_number"),
      sql<Date>`(select requested_at from session)`.as("requested_at"),
      // As it was before this statement.
      sql<boolean>`exists (select from sessions where state in ('requested', 'queued'))`.as("others_wait"),
    ])
    .executeTakeFirstOrThrow();
  // Since it was asked about; thrown inside the transaction, the session does not come about.
  if (!row.is_met) requireTrusted(clientKey, await readTrust(tx, clientKey));
  return {
    othersWait: row.others_wait,
    session: {
      ...wishOf(request),
      id,
      user: admitted.user,
      preferred: row.preferred ?? [],
      priority: admitted.priority,
      queueNumber: row.queue_number,
      requestedAtMs: row.requested_at.getTime(),
      maxDurationMs: admitted.maxDurationMs,
    },
  };
}

function columnsOf({
  id,
  request,
  clientKey,
  person,
  admitted,
  budget,
}: NewSession): InsertObject<Schema, "sessions"> {
  const { client } = request;
  return {
    id,
    state: "requested",
    name: request.name,
    requested_count: request.count,
    size: JSON.stringify(request.size),
    client_host: client.host,
    client_user: person.name,
    reported_account: client.user,
    user_id: person.userId,
    client_pid: client.pid,
    client_program: storedProgram(client.program),
    client_key: clientKey,
    secret: randomBytes(32).toString("hex"),
    wait_until: admitted.waitMs === null ? null : nowPlus(admitted.waitMs),
    purpose: request.purpose,
    project: request.project,
    labels: JSON.stringify(request.labels),
    policy_user: admitted.user,
    policy_user_source: admitted.source,
    // Whose share it counts against is who policies say it is for.
    share_key: admitted.user,
    priority: admitted.priority,
    filters: JSON.stringify(request.filters),
    spread_servers: request.spreadServers,
    preferred_gpus: gpusOfBefore(clientKey, person.name),
    max_duration_ms: admitted.maxDurationMs,
    idle_timeout_ms: admitted.idleTimeoutMs,
    auto_release_ms: request.autoReleaseMs,
    servers_allowed: jsonOrNull(admitted.limits.servers),
    memory_allowed_bytes: admitted.limits.memoryBytes,
    lease_expires_at: nowPlus(request.purpose === "service" ? TIMES.serviceLeaseMs : TIMES.leaseMs),
    requested_at: now(),
    over_budget: budget?.action === "queue-last",
    budget_notice: budget?.sentence ?? null,
  };
}

/** The GPUs that the same account of the same client had last, if that was lately. */
function gpusOfBefore(clientKey: Thumbprint, user: string) {
  return sql<string>`(
    select jsonb_agg(gpu_uuid order by ordinal) from session_gpus where session_id = (
      select id from sessions
      where client_key = ${clientKey} and client_user = ${user} and state = 'ended' and granted_at is not null
        and ended_at > clock_timestamp() - ${STICKY_MS} * interval '1 millisecond'
      order by ended_at desc limit 1))`;
}

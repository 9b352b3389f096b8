import { randomBytes, randomInt } from "node:crypto";
import {
  FarpoolError,
  formatRequest,
  sessionIdSchema,
  TIMES,
  type GpuUuid,
  type Session,
  type SessionId,
  type SessionRequest,
  type Thumbprint,
} from "@farpool/contract";
import type { WaitingSession } from "@farpool/domain";
import { sql, type InsertObject } from "kysely";
import { inPlacement, jsonOrNull, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import type { Schema } from "../database/schema.ts";
import { THE_MANAGER, type Principal } from "../http/principal.ts";
import { meetClient } from "../identity/clients.ts";
import { personOf, type Person } from "../identity/persons.ts";
import { requireAdmissible, wishOf } from "../placement/admission.ts";
import { readCapacity } from "../placement/capacity.ts";
import { grantAlone, runPlacementPass } from "../placement/pass.ts";
import { admitRequest, auditRefusal, type Admission } from "../policies/admit.ts";
import { allowedServers, withinLimits } from "../policies/allowed-servers.ts";
import type { SpentBudget } from "../usage/budgets.ts";
import { admitByBudget } from "../usage/queue.ts";
import { readSession } from "./read.ts";

/** Without characters that are mistaken for others when read aloud or copied. */
const ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz";

/** A session that comes back within this time prefers the GPUs that it had. */
const STICKY_MS = 86_400_000;

/** Grants, queues or refuses: one transaction, so a request that fits never waits for the next pass. */
export async function createSession(
  db: Database,
  asked: SessionRequest,
  caller: Principal = THE_MANAGER,
): Promise<Session> {
  // A client that has joined has the name that it joined with, whatever it says.
  const host = caller.machine?.role === "client" ? caller.machine.name : asked.client.host;
  const request = { ...asked, client: { ...asked.client, host } };
  try {
    return await inPlacement(db, (tx) => create(tx, request, caller));
  } catch (error) {
    await auditRefusal(db, { request, caller }, error);
    throw error;
  }
}

async function create(tx: Tx, request: SessionRequest, caller: Principal): Promise<Session> {
  const servers = await readCapacity(tx);
  requireAdmissible(request, servers);
  const { thumbprint: clientKey, mapped } = await meetClient(tx, request.clientKey, request.client);
  const person = personOf(request.client.user, mapped, caller);
  const admitted = await admitRequest(tx, { request, clientKey, person, servers });
  const spender = { user: admitted.user, project: request.project };
  const budget = await admitByBudget(tx, spender, admitted.budgets);
  const id = newSessionId();
  const { session: fresh, othersWait } = await insertSession(tx, {
    id,
    request,
    clientKey,
    person,
    admitted,
    budget,
  });
  const placed = withinLimits(fresh, admitted.limits, allowedServers(servers));
  if (othersWait || !(await grantAlone(tx, placed, servers))) await runPlacementPass(tx, servers);
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

/** The session and its first event in one statement, which also tells what placement has to know. */
async function insertSession(tx: Tx, made: NewSession): Promise<Inserted> {
  const { id, request, person, admitted, budget } = made;
  const asked = `${formatRequest(request.count, request.size)} for ${person.name}@${request.client.host}`;
  const reason = budget === undefined ? asked : `${asked}; ${budget.sentence}`;
  const row = await tx
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
      sql<GpuUuid[] | null>`(select preferred_gpus from session)`.as("preferred"),
      sql<number>`(select queue_number from session)`.as("queue_number"),
      sql<Date>`(select requested_at from session)`.as("requested_at"),
      // As it was before this statement.
      sql<boolean>`exists (select from sessions where state in ('requested', 'queued'))`.as("others_wait"),
    ])
    .executeTakeFirstOrThrow();
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
    client_program: client.program,
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

function newSessionId(): SessionId {
  let text = "s-";
  for (let digit = 0; digit < 8; digit += 1) text += ID_ALPHABET[randomInt(ID_ALPHABET.length)];
  return sessionIdSchema.parse(text);
}

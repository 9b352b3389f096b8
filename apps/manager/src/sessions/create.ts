import { randomBytes, randomInt } from "node:crypto";
import {
  FarpoolError,
  formatRequest,
  parseFilter,
  sessionIdSchema,
  TIMES,
  type GpuUuid,
  type Session,
  type SessionId,
  type SessionRequest,
  type Thumbprint,
} from "@farpool/contract";
import type { WaitingSession } from "@farpool/domain";
import { sql } from "kysely";
import { inPlacement, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import { meetClient } from "../identity/clients.ts";
import { requireAdmissible } from "../placement/admission.ts";
import { readCapacity } from "../placement/capacity.ts";
import { shareKeyOf } from "../placement/fair-share.ts";
import { grantAlone, runPlacementPass } from "../placement/pass.ts";
import { readSession } from "./read.ts";

/** Without characters that are mistaken for others when read aloud or copied. */
const ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz";

/** Grants, queues or refuses: one transaction, so a request that fits never waits for the next pass. */
/** A session that comes back within this time prefers the GPUs that it had. */
const STICKY_MS = 86_400_000;

/** Grants, queues or refuses: one transaction, so a request that fits never waits for the next pass. */
export function createSession(db: Database, request: SessionRequest): Promise<Session> {
  return inPlacement(db, async (tx) => {
    const capacity = await readCapacity(tx);
    requireAdmissible(request, capacity);
    const clientKey = await meetClient(tx, request.clientKey, request.client);
    const id = newSessionId();
    const { session: fresh, othersWait } = await insertSession(tx, { id, request, clientKey });
    if (othersWait || !(await grantAlone(tx, fresh, capacity))) await runPlacementPass(tx, capacity);
    const session = await readSession(tx, id);
    if (session.state === "queued" && request.waitMs === 0) {
      // Thrown inside the transaction: a session that would not wait leaves no trace in the queue.
      const asked = formatRequest(request.count, request.size);
      throw new FarpoolError("FARPOOL_WAIT_OVER", `${asked}: waited 0 s, none is free now`, {
        hint: `it would be at position ${session.queue?.position ?? 1} of the queue`,
      });
    }
    return session;
  });
}

interface NewSession {
  readonly id: SessionId;
  readonly request: SessionRequest;
  readonly clientKey: Thumbprint;
}

interface Inserted {
  readonly session: WaitingSession;
  /** It is not alone in the queue. */
  readonly othersWait: boolean;
}

/** The session and its first event in one statement, which also tells what placement has to know. */
async function insertSession(tx: Tx, { id, request, clientKey }: NewSession): Promise<Inserted> {
  const { client } = request;
  const reason = `${formatRequest(request.count, request.size)} for ${client.user}@${client.host}`;
  const row = await tx
    .with("session", (context) =>
      context
        .insertInto("sessions")
        .values({
          id,
          state: "requested",
          name: request.name,
          requested_count: request.count,
          size: JSON.stringify(request.size),
          client_host: client.host,
          client_user: client.user,
          client_pid: client.pid,
          client_program: client.program,
          client_key: clientKey,
          secret: randomBytes(32).toString("hex"),
          wait_until: request.waitMs === null ? null : nowPlus(request.waitMs),
          lease_expires_at: nowPlus(TIMES.leaseMs),
          requested_at: now(),
          priority: request.priority,
          filters: JSON.stringify(request.filters),
          max_duration_ms: request.maxDurationMs,
          share_key: shareKeyOf(client),
          preferred_gpus: gpusOfBefore(clientKey, client.user),
        })
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
      id,
      user: shareKeyOf(client),
      count: request.count,
      size: request.size,
      filters: request.filters.map(parseFilter),
      preferred: row.preferred ?? [],
      priority: request.priority,
      queueNumber: row.queue_number,
      requestedAtMs: row.requested_at.getTime(),
      maxDurationMs: request.maxDurationMs,
    },
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

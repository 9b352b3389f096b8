import { randomBytes, randomInt } from "node:crypto";
import {
  FarpoolError,
  formatRequest,
  sessionIdSchema,
  TIMES,
  type Session,
  type SessionId,
  type SessionRequest,
  type Thumbprint,
} from "@farpool/contract";
import { sql } from "kysely";
import { inPlacement, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import { meetClient } from "../identity/clients.ts";
import { requireAdmissible } from "../placement/admission.ts";
import { readCapacity } from "../placement/capacity.ts";
import { shareKeyOf } from "../placement/fair-share.ts";
import { runPlacementPass } from "../placement/pass.ts";
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
    await insertSession(tx, { id, request, clientKey });
    await runPlacementPass(tx, capacity);
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

/** The session and its first event in one statement. */
async function insertSession(tx: Tx, { id, request, clientKey }: NewSession): Promise<void> {
  const { client } = request;
  const reason = `${formatRequest(request.count, request.size)} for ${client.user}@${client.host}`;
  await tx
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
        .returning("id"),
    )
    .insertInto("session_events")
    .expression((eb) =>
      eb.selectFrom("session").select(["id", sql.lit("requested").as("state"), sql.val(reason).as("reason")]),
    )
    .columns(["session_id", "state", "reason"])
    .execute();
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

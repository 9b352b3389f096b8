import { randomBytes, randomInt } from "node:crypto";
import {
  FarpoolError,
  formatRequest,
  sessionIdSchema,
  TIMES,
  type Session,
  type SessionId,
  type SessionRequest,
} from "@farpool/contract";
import { refusalOf } from "@farpool/domain";
import { inPlacement, jsonOrNull, now, nowPlus, type Database, type Tx } from "../database/connect.ts";
import { THE_MANAGER, type Principal } from "../http/principal.ts";
import { meetClient } from "../identity/clients.ts";
import { personOf } from "../identity/persons.ts";
import { admitRequest, auditRefusal } from "../policies/admit.ts";
import { readCapacity } from "../placement/capacity.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { admitByBudget } from "../usage/queue.ts";
import { recordEvent } from "./events.ts";
import { readSession } from "./read.ts";

/** Without characters that are mistaken for others when read aloud or copied. */
const ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz";

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
  const refusal = refusalOf(request, servers);
  if (refusal !== undefined) throw refusal;
  const clientKey = await meetClient(tx, request.clientKey, request.client);
  const person = await personOf(tx, { clientKey, account: request.client.user }, caller);
  const admitted = await admitRequest(tx, { request, clientKey, person, servers });
  const budget = await admitByBudget(tx, { user: admitted.user, project: request.project });
  const id = newSessionId();
  await tx
    .insertInto("sessions")
    .values({
      id,
      state: "requested",
      name: request.name,
      requested_count: request.count,
      size: JSON.stringify(request.size),
      client_host: request.client.host,
      client_user: person.name,
      reported_account: request.client.user,
      user_id: person.userId,
      client_pid: request.client.pid,
      client_program: request.client.program,
      client_key: clientKey,
      secret: randomBytes(32).toString("hex"),
      wait_until: admitted.waitMs === null ? null : nowPlus(admitted.waitMs),
      purpose: request.purpose,
      project: request.project,
      labels: JSON.stringify(request.labels),
      policy_user: admitted.user,
      policy_user_source: admitted.source,
      max_duration_ms: admitted.maxDurationMs,
      idle_timeout_ms: admitted.idleTimeoutMs,
      auto_release_ms: request.autoReleaseMs,
      servers_allowed: jsonOrNull(admitted.servers),
      memory_allowed_bytes: admitted.memoryBytes,
      lease_expires_at: nowPlus(TIMES.leaseMs),
      requested_at: now(),
      over_budget: budget?.action === "queue-last",
      budget_notice: budget?.sentence ?? null,
    })
    .execute();
  const asked = formatRequest(request.count, request.size);
  await recordEvent(tx, {
    id,
    state: "requested",
    reason: `${asked} for ${person.name}@${request.client.host}${budget === undefined ? "" : `; ${budget.sentence}`}`,
  });
  await runPlacementPass(tx);
  const session = await readSession(tx, id);
  if (session.state === "queued" && admitted.waitMs === 0) {
    // Thrown inside the transaction: a session that would not wait leaves no trace in the queue.
    throw new FarpoolError("FARPOOL_WAIT_OVER", `${asked}: waited 0 s, none is free now`, {
      hint: `it would be at position ${session.queue?.position ?? 1} of the queue`,
    });
  }
  return session;
}

function newSessionId(): SessionId {
  let text = "s-";
  for (let digit = 0; digit < 8; digit += 1) text += ID_ALPHABET[randomInt(ID_ALPHABET.length)];
  return sessionIdSchema.parse(text);
}

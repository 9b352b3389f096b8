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
import { inPlacement, now, nowPlus, type Database } from "../database/connect.ts";
import { meetClient } from "../identity/clients.ts";
import { readCapacity } from "../placement/capacity.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { spenderOfRequest } from "../usage/attribution.ts";
import { admitByBudget } from "../usage/queue.ts";
import { recordEvent } from "./events.ts";
import { readSession } from "./read.ts";

/** Without characters that are mistaken for others when read aloud or copied. */
const ID_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz";

/** Grants, queues or refuses: one transaction, so a request that fits never waits for the next pass. */
export async function createSession(db: Database, request: SessionRequest): Promise<Session> {
  // Not under the placement lock: what runs goes on spending anyway, and summing it takes a while.
  const budget = await admitByBudget(db, spenderOfRequest(request));
  return inPlacement(db, async (tx) => {
    const refusal = refusalOf(request, await readCapacity(tx));
    if (refusal !== undefined) throw refusal;
    const clientKey = await meetClient(tx, request.clientKey, request.client);
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
        client_user: request.client.user,
        client_pid: request.client.pid,
        client_program: request.client.program,
        client_key: clientKey,
        secret: randomBytes(32).toString("hex"),
        wait_until: request.waitMs === null ? null : nowPlus(request.waitMs),
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
      reason: `${asked} for ${request.client.user}@${request.client.host}${budget === undefined ? "" : `; ${budget.sentence}`}`,
    });
    await runPlacementPass(tx);
    const session = await readSession(tx, id);
    if (session.state === "queued" && request.waitMs === 0) {
      // Thrown inside the transaction: a session that would not wait leaves no trace in the queue.
      throw new FarpoolError("FARPOOL_WAIT_OVER", `${asked}: waited 0 s, none is free now`, {
        hint: `it would be at position ${session.queue?.position ?? 1} of the queue`,
      });
    }
    return session;
  });
}

function newSessionId(): SessionId {
  let text = "s-";
  for (let digit = 0; digit < 8; digit += 1) text += ID_ALPHABET[randomInt(ID_ALPHABET.length)];
  return sessionIdSchema.parse(text);
}

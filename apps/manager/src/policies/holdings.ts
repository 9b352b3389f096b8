import { MIB, type SessionId, type SessionPurpose, type Thumbprint } from "@farpool/contract";
import type { ServerCapacity } from "@farpool/domain";
import { NOTHING, type EffectivePolicy, type Holding, type Holdings } from "@farpool/policies";
import { sql } from "kysely";
import type { Tx } from "../database/connect.ts";
import { mostMemory } from "./allowed-servers.ts";
import type { SessionSubject } from "./subject.ts";

/** A session that lives or waits, as limits count it. */
export interface LivingSession {
  readonly id: SessionId;
  readonly purpose: SessionPurpose;
  readonly user: string | null;
  readonly client: Thumbprint | null;
  readonly project: string | null;
  readonly holding: Holding;
}

/** Those of a subject's user, client or project. Who waits counts as if it had got what it waits for. */
export async function readLiving(
  tx: Tx,
  { user, client, project }: SessionSubject,
  servers: readonly ServerCapacity[],
): Promise<LivingSession[]> {
  const rows = await tx
    .selectFrom("sessions")
    .select([
      "id",
      "purpose",
      "policy_user",
      "client_key",
      "project",
      "requested_count",
      "size",
      "memory_allowed_bytes",
    ])
    .select((eb) =>
      eb
        .selectFrom("session_gpus")
        .innerJoin("gpus", "gpus.uuid", "session_gpus.gpu_uuid")
        .select(sql<number>`sum(coalesce(memory_limit_bytes, memory_total_bytes))::float8`.as("bytes"))
        .whereRef("session_gpus.session_id", "=", "sessions.id")
        .as("placed_bytes"),
    )
    .where("state", "<>", "ended")
    .where((eb) =>
      eb.or([
        eb("policy_user", "=", user),
        ...(client === null ? [] : [eb("client_key", "=", client)]),
        ...(project === null ? [] : [eb("project", "=", project)]),
      ]),
    )
    .orderBy("queue_number")
    .execute();
  return rows.map((row) => {
    const wish = { count: row.requested_count, size: row.size };
    const most = Math.max(0, ...servers.map((server) => mostMemory(wish, server)));
    const bytes = row.placed_bytes ?? Math.min(most, row.memory_allowed_bytes ?? most);
    return {
      id: row.id,
      purpose: row.purpose,
      user: row.policy_user,
      client: row.client_key,
      project: row.project,
      holding: { gpus: row.requested_count, memoryMib: Math.ceil(bytes / MIB), sessions: 1 },
    };
  });
}

/**
 * Each limit counts the sessions of the one its policy names. One of the pool or of a group counts each user by itself,
 * and where a client only reports its users, whom it could invent, the client.
 */
export function countHoldings(
  policy: EffectivePolicy,
  subject: SessionSubject,
  living: readonly LivingSession[],
): Holdings {
  const count = (field: "gpus" | "memoryMib" | "sessions"): Holding => {
    const isCounted = counts(policy[field].origin?.kind ?? "pool", subject);
    return living.filter(isCounted).reduce((sum, { holding }) => add(sum, holding), NOTHING);
  };
  return { gpus: count("gpus"), memoryMib: count("memoryMib"), sessions: count("sessions") };
}

function counts(
  kind: NonNullable<EffectivePolicy["gpus"]["origin"]>["kind"],
  subject: SessionSubject,
): (session: LivingSession) => boolean {
  switch (kind) {
    case "user":
      return ({ user }) => user === subject.user;
    case "client":
      return ({ client }) => client === subject.client;
    case "project":
      return ({ project }) => project === subject.project;
    case "group":
    case "pool":
      return subject.source === "reported"
        ? ({ client }) => client === subject.client
        : ({ user }) => user === subject.user;
  }
}

function add(a: Holding, b: Holding): Holding {
  return {
    gpus: a.gpus + b.gpus,
    memoryMib: a.memoryMib + b.memoryMib,
    sessions: a.sessions + b.sessions,
  };
}

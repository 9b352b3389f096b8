import type { SessionId, SessionPurpose, Thumbprint } from "@farpool/contract";
import { NOTHING, type EffectivePolicy, type Holding, type Holdings } from "@farpool/policies";
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

import {
  DEFAULT_PRIORITY,
  FarpoolError,
  HIGHEST_PRIORITY,
  type PolicyFieldName,
  type SessionPurpose,
} from "@farpool/contract";
import { FIELD_TITLES, formatFieldValue, formatOrigin, whoCanChange, type ClientNames } from "./describe.ts";
import type { EffectivePolicy } from "./resolve.ts";

/** What is held already, by those whom a limit counts. */
export interface Holding {
  readonly gpus: number;
  readonly memoryMib: number;
  readonly sessions: number;
}

export const NOTHING: Holding = { gpus: 0, memoryMib: 0, sessions: 0 };

/** What is asked for; null is without limit. */
export interface Asked {
  readonly purpose: SessionPurpose;
  readonly count: number;
  /** The least memory that a session of this size takes. */
  readonly memoryMib: number;
  /** Null: what is allowed, up to the normal one. */
  readonly priority: number | null;
  readonly waitMs: number | null;
  readonly idleTimeoutMs: number | null;
  readonly maxDurationMs: number | null;
}

/** What the session gets of what can be had for shorter or longer. */
export interface Lifetimes {
  readonly waitMs: number | null;
  readonly idleTimeoutMs: number | null;
  readonly maxDurationMs: number | null;
}

/** What a session gets. */
export interface Terms extends Lifetimes {
  readonly priority: number;
}

/** How much is held where each counted limit is counted. */
export type Holdings = Readonly<Record<"gpus" | "memoryMib" | "sessions", Holding>>;

/** What holds for somebody, and what clients are called in sentences. */
export interface Rules {
  readonly policy: EffectivePolicy;
  readonly names?: ClientNames;
}

interface Refusal {
  readonly field: PolicyFieldName;
  readonly asked: string;
  readonly allowed?: string;
}

/** The sentence names policy, value asked, value allowed, origin and who can change it. */
export function refuse({ policy, names }: Rules, { field, asked, allowed }: Refusal): FarpoolError {
  const resolved = policy[field];
  const value = allowed ?? formatFieldValue(field, resolved.value);
  return new FarpoolError(
    "FARPOOL_POLICY",
    `policy '${FIELD_TITLES[field]}': asked for ${asked}, allowed: ${value} (${formatOrigin(resolved, names)})`,
    {
      hint: `${whoCanChange(resolved.origin, field)}, can change it; 'farpool admin policies explain' shows all of them`,
    },
  );
}

/** Throws what a policy forbids; answers the times and the priority that hold for the session. */
export function judge(rules: Rules, asked: Asked, holdings: Holdings): Terms {
  const { policy } = rules;
  const no = (field: PolicyFieldName, text: string): never => {
    throw refuse(rules, { field, asked: text });
  };
  if (policy.serviceOnly.value && asked.purpose !== "service")
    no("serviceOnly", `a session that is not the client's service (${asked.purpose})`);
  const beside = (held: number, unit: string): string => (held === 0 ? "" : ` beside ${unit} held already`);
  const { gpus, memoryMib, sessions } = policy;
  if (sessions.value !== null && holdings.sessions.sessions + 1 > sessions.value)
    no("sessions", `1${beside(holdings.sessions.sessions, String(holdings.sessions.sessions))}`);
  if (gpus.value !== null && holdings.gpus.gpus + asked.count > gpus.value)
    no("gpus", `${asked.count}${beside(holdings.gpus.gpus, String(holdings.gpus.gpus))}`);
  if (memoryMib.value !== null && holdings.memoryMib.memoryMib + asked.memoryMib > memoryMib.value) {
    const text = (value: number): string => formatFieldValue("memoryMib", value);
    const held = holdings.memoryMib.memoryMib;
    no("memoryMib", `${text(asked.memoryMib)}${beside(held, text(held))}`);
  }
  return {
    priority: limitPriority(rules, asked.priority),
    waitMs: limitTime(rules, "waitMs", asked.waitMs),
    idleTimeoutMs: limitTime(rules, "idleTimeoutMs", asked.idleTimeoutMs),
    maxDurationMs: limitTime(rules, "maxDurationMs", asked.maxDurationMs),
  };
}

/** Where no policy says anything, everybody may be modest; who names none is never refused for it. */
function limitPriority(rules: Rules, asked: number | null): number {
  const { value, origin } = rules.policy.priority;
  const most = value ?? (origin === null ? DEFAULT_PRIORITY : HIGHEST_PRIORITY);
  if (asked === null) return Math.min(DEFAULT_PRIORITY, most);
  if (asked > most) throw refuse(rules, { field: "priority", asked: String(asked), allowed: String(most) });
  return asked;
}

/** Who names no time gets the policy's; who names a longer one is refused, so nobody is surprised later. */
export function limitTime(
  rules: Rules,
  field: "waitMs" | "idleTimeoutMs" | "maxDurationMs",
  asked: number | null,
): number | null {
  const allowed = rules.policy[field].value;
  if (asked === null || allowed === null) return asked ?? allowed;
  if (asked > allowed) throw refuse(rules, { field, asked: formatFieldValue(field, asked) });
  return asked;
}

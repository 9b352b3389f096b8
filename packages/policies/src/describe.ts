import {
  DEFAULT_PRIORITY,
  formatBytes,
  formatDuration,
  MIB,
  policyFieldNames,
  type FieldExplanation,
  type PolicyFieldName,
  type PolicyScope,
} from "@farpool/contract";
import { formatRequirements } from "./labels.ts";
import type { EffectivePolicy, FieldValue, Resolved } from "./resolve.ts";

/** A field in words, as it is called in sentences. */
export const FIELD_TITLES: Readonly<Record<PolicyFieldName, string>> = {
  gpus: "GPUs at once",
  memoryMib: "GPU memory at once",
  sessions: "sessions at once",
  priority: "highest priority",
  idleTimeoutMs: "idle timeout",
  maxDurationMs: "maximum duration",
  waitMs: "longest wait",
  servers: "allowed servers",
  serviceOnly: "service only",
};

/** The command line's name of a field: `--max-duration`. */
export const FIELD_OPTIONS: Readonly<Record<PolicyFieldName, string>> = {
  gpus: "gpus",
  memoryMib: "memory",
  sessions: "sessions",
  priority: "priority",
  idleTimeoutMs: "idle-timeout",
  maxDurationMs: "max-duration",
  waitMs: "wait",
  servers: "servers",
  serviceOnly: "service-only",
};

export function formatFieldValue(field: PolicyFieldName, value: FieldValue<PolicyFieldName>): string {
  if (value === null) return field === "servers" ? "all" : "without limit";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "object") return formatRequirements(value);
  switch (field) {
    case "memoryMib":
      return formatBytes(value * MIB);
    case "idleTimeoutMs":
    case "maxDurationMs":
    case "waitMs":
      return formatDuration(value);
    case "gpus":
    case "sessions":
    case "priority":
    case "servers":
    case "serviceOnly":
      return String(value);
  }
}

/** Names of clients by their keys, for people. */
export type ClientNames = ReadonlyMap<string, string>;

export function formatScope({ kind, name }: PolicyScope, names: ClientNames = new Map()): string {
  switch (kind) {
    case "user":
      return `user ${name}`;
    case "group":
      return `group ${name}`;
    case "client": {
      const known = names.get(name);
      return known === undefined ? `client ${name}` : `client ${known} (key ${name})`;
    }
    case "project":
      return `project ${name}`;
    case "pool":
      return "the pool";
  }
}

/** The options of `admin policies` that name a scope. */
export function scopeOption({ kind, name }: PolicyScope): string {
  return kind === "pool" ? "--pool" : `--${kind} ${name}`;
}

export function formatOrigin(
  { origin, hard }: Pick<Resolved<unknown>, "origin" | "hard">,
  names?: ClientNames,
): string {
  if (origin === null) return "nobody has set it";
  return `policy of ${formatScope(origin, names)}${hard ? ", hard" : ""}`;
}

export function whoCanChange(origin: PolicyScope | null, field: PolicyFieldName): string {
  const scope = origin === null ? "--pool" : scopeOption(origin);
  return `an administrator of the pool, with 'farpool admin policies set ${scope} --${FIELD_OPTIONS[field]} …'`;
}

/** All fields of a policy with what they come from. */
export function explain(policy: EffectivePolicy, names?: ClientNames): FieldExplanation[] {
  return policyFieldNames.map((field) => explainField(field, policy[field], names));
}

/** What holds although nobody has said so. */
function unset(field: PolicyFieldName, { origin }: Pick<Resolved<unknown>, "origin">): string | undefined {
  return field === "priority" && origin === null ? String(DEFAULT_PRIORITY) : undefined;
}

function explainField<F extends PolicyFieldName>(
  field: F,
  resolved: EffectivePolicy[F],
  names: ClientNames | undefined,
): FieldExplanation {
  return {
    field,
    value: unset(field, resolved) ?? formatFieldValue(field, resolved.value),
    hard: resolved.hard,
    origin: resolved.origin,
    originText: formatOrigin(resolved, names),
    whoCanChangeIt: whoCanChange(resolved.origin, field),
    overruled: resolved.overruled.map(({ origin, value, why }) => ({
      origin,
      value: formatFieldValue(field, value),
      why,
    })),
  };
}

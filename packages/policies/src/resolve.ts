import {
  policyScopeKinds,
  type LabelRequirement,
  type Policy,
  type PolicyFields,
  type PolicyFieldName,
  type PolicyScope,
} from "@farpool/contract";
import { formatRequirements } from "./labels.ts";

/** Whose policies are to be found: a session's user, groups, client and project. */
export interface Subject {
  readonly user: string | null;
  readonly groups: readonly string[];
  /** The thumbprint of the client's key. */
  readonly client: string | null;
  readonly project: string | null;
}

export type FieldValue<F extends PolicyFieldName> = NonNullable<PolicyFields[F]>["value"];

/** What another policy says about a field, and why it does not hold. */
export interface Overruled<T> {
  readonly origin: PolicyScope;
  readonly value: T;
  readonly why: "less specific" | "wider than a hard policy" | "stricter than that of another group";
}

export interface Resolved<T> {
  readonly value: T;
  /** Null: nobody has set it. */
  readonly origin: PolicyScope | null;
  /** Nobody more specific can widen it. */
  readonly hard: boolean;
  readonly overruled: ReadonlyArray<Overruled<T>>;
}

export type EffectivePolicy = { readonly [F in PolicyFieldName]: Resolved<FieldValue<F>> };

/** Whether a policy is one of a subject's. */
export function appliesTo({ kind, name }: PolicyScope, subject: Subject): boolean {
  switch (kind) {
    case "user":
      return name === subject.user;
    case "group":
      return subject.groups.includes(name);
    case "client":
      return name === subject.client;
    case "project":
      return name === subject.project;
    case "pool":
      return true;
  }
}

/**
 * Field by field the most specific policy wins. A hard one may only be narrowed by more specific ones. Who is in
 * several groups has the most generous of them, as long as none is hard.
 */
export function resolvePolicies(
  policies: ReadonlyArray<Pick<Policy, "scope" | "fields">>,
  subject: Subject,
): EffectivePolicy {
  const mine = policies.filter(({ scope }) => appliesTo(scope, subject));
  const number = (field: NumberField) => resolve(settingsOf(mine, field), null, NUMBERS);
  return {
    gpus: number("gpus"),
    memoryMib: number("memoryMib"),
    sessions: number("sessions"),
    priority: number("priority"),
    idleTimeoutMs: number("idleTimeoutMs"),
    maxDurationMs: number("maxDurationMs"),
    waitMs: number("waitMs"),
    servers: resolve(settingsOf(mine, "servers"), null, SERVERS),
    serviceOnly: resolve(settingsOf(mine, "serviceOnly"), false, FLAGS),
  };
}

type NumberField = Exclude<PolicyFieldName, "servers" | "serviceOnly">;

interface Setting<T> {
  readonly scope: PolicyScope;
  readonly value: T;
  readonly hard: boolean;
}

function settingsOf<F extends PolicyFieldName>(
  policies: ReadonlyArray<Pick<Policy, "scope" | "fields">>,
  field: F,
): ReadonlyArray<Setting<FieldValue<F>>> {
  return policies.flatMap(({ scope, fields }) => {
    const setting = fields[field];
    // The type of `fields[field]` is that of F, which the index forgets.
    return setting === undefined ? [] : [{ scope, ...setting } as Setting<FieldValue<F>>];
  });
}

interface Kind<T> {
  /** What both allow. */
  narrow(a: T, b: T): T;
  isSame(a: T, b: T): boolean;
}

/** Null is without limit. */
const NUMBERS: Kind<number | null> = {
  narrow: (a, b) => (a === null ? b : b === null ? a : Math.min(a, b)),
  isSame: (a, b) => a === b,
};

const SERVERS: Kind<LabelRequirement[] | null> = {
  narrow(a, b) {
    if (a === null || b === null) return a ?? b;
    const known = new Set(a.map((each) => formatRequirements([each])));
    return [...a, ...b.filter((each) => !known.has(formatRequirements([each])))];
  },
  isSame: (a, b) => a === b || (a !== null && b !== null && formatRequirements(a) === formatRequirements(b)),
};

const FLAGS: Kind<boolean> = { narrow: (a, b) => a || b, isSame: (a, b) => a === b };

function resolve<T>(settings: ReadonlyArray<Setting<T>>, unset: T, kind: Kind<T>): Resolved<T> {
  let held: Resolved<T> = { value: unset, origin: null, hard: false, overruled: [] };
  // From the pool to the user: what is hard so far is a bound for all that come.
  let bound: Setting<T> | undefined;
  for (const scopeKind of policyScopeKinds.toReversed()) {
    const { chosen, others } = choose(
      settings.filter(({ scope }) => scope.kind === scopeKind),
      kind,
    );
    if (chosen === undefined) continue;
    const before: Array<Overruled<T>> = [...held.overruled, ...others];
    const narrowed = bound === undefined ? chosen.value : kind.narrow(bound.value, chosen.value);
    if (bound !== undefined && kind.isSame(narrowed, bound.value) && !kind.isSame(narrowed, chosen.value)) {
      // A softer policy between the two that was narrower than the bound is less specific than this one.
      if (held.origin !== null && !isSameScope(held.origin, bound.scope))
        before.push({ origin: held.origin, value: held.value, why: "less specific" });
      before.push({ origin: chosen.scope, value: chosen.value, why: "wider than a hard policy" });
      const { scope } = bound;
      const overruled = before.filter((each) => !isSameScope(each.origin, scope));
      held = { value: bound.value, origin: scope, hard: true, overruled };
    } else {
      if (held.origin !== null) before.push({ origin: held.origin, value: held.value, why: "less specific" });
      held = { value: narrowed, origin: chosen.scope, hard: chosen.hard, overruled: before };
    }
    if (chosen.hard)
      bound = {
        scope: kind.isSame(narrowed, chosen.value) || bound === undefined ? chosen.scope : bound.scope,
        value: narrowed,
        hard: true,
      };
  }
  return held;
}

function isSameScope(a: PolicyScope, b: PolicyScope): boolean {
  return a.kind === b.kind && a.name === b.name;
}

/** One setting of a kind of scope: only groups have several. */
function choose<T>(
  settings: ReadonlyArray<Setting<T>>,
  kind: Kind<T>,
): { chosen: Setting<T> | undefined; others: Array<Overruled<T>> } {
  const hard = settings.filter((setting) => setting.hard);
  const [first, ...rest] = hard.length > 0 ? hard : settings;
  if (first === undefined) return { chosen: undefined, others: [] };
  let chosen = first;
  for (const next of rest) {
    const narrowed = kind.narrow(chosen.value, next.value);
    const nextIsNarrower = kind.isSame(narrowed, next.value);
    // Of hard ones all hold, of the others the most generous.
    if (hard.length > 0) chosen = nextIsNarrower ? next : { ...chosen, value: narrowed };
    else if (!nextIsNarrower) chosen = next;
  }
  const others = settings
    .filter(({ scope }) => scope.name !== chosen.scope.name)
    .map(({ scope, value }): Overruled<T> => ({
      origin: scope,
      value,
      why: hard.length > 0 ? "wider than a hard policy" : "stricter than that of another group",
    }));
  return { chosen, others };
}

import {
  FarpoolError,
  policyFieldNames,
  policyFieldsSchema,
  policyScopeKinds,
  policyScopeSchema,
  type Policy,
  type PolicyFieldName,
  type PolicyFields,
  type PolicyScope,
} from "@farpool/contract";
import {
  appliesTo,
  FIELD_TITLES,
  formatFieldValue,
  formatScope,
  type ClientNames,
  type Subject,
} from "@farpool/policies";
import { sql, type Selectable } from "kysely";
import { inPlacement, now, type Database, type Tx } from "../database/connect.ts";
import type { PoliciesTable } from "../database/schema.ts";
import { recordAudit } from "../identity/audit.ts";

export async function listPolicies(db: Database): Promise<Policy[]> {
  const rows = await db.selectFrom("policies").selectAll().orderBy("scope_name").execute();
  return policyScopeKinds.flatMap((kind) => rows.filter((row) => row.scope_kind === kind).map(toPolicy));
}

/** Those that concern somebody. */
export async function readPoliciesOf(db: Database, subject: Subject): Promise<Policy[]> {
  const names = [subject.user, ...subject.groups, subject.client, subject.project, ""];
  const rows = await db
    .selectFrom("policies")
    .selectAll()
    .where(
      "scope_name",
      "in",
      names.filter((name) => name !== null),
    )
    .orderBy("scope_name")
    .execute();
  return rows.map(toPolicy).filter(({ scope }) => appliesTo(scope, subject));
}

/** Sets the fields that are named. Under the placement lock: no session is admitted by half of a change. */
export function setPolicy(db: Database, scope: PolicyScope, fields: PolicyFields): Promise<Policy> {
  return inPlacement(db, async (tx) => {
    await requireScope(tx, scope);
    const before = await find(tx, scope);
    const merged = { ...before?.fields, ...fields };
    const values = { fields: JSON.stringify(merged), updated_at: now() };
    await tx
      .insertInto("policies")
      .values({ scope_kind: scope.kind, scope_name: scope.name, ...values })
      .onConflict((conflict) => conflict.columns(["scope_kind", "scope_name"]).doUpdateSet(values))
      .execute();
    await recordChange(tx, scope, describeFields(fields));
    const after = await find(tx, scope);
    if (after === undefined) throw new Error(`the policy of ${formatScope(scope)} vanished while it was set`);
    return after;
  });
}

export function removePolicy(
  db: Database,
  scope: PolicyScope,
  fields: readonly PolicyFieldName[] | null,
): Promise<void> {
  return inPlacement(db, async (tx) => {
    const before = await find(tx, scope);
    const missing = fields?.find((field) => before?.fields[field] === undefined);
    if (before === undefined || missing !== undefined) {
      const what = missing === undefined ? "policy" : `'${FIELD_TITLES[missing]}' in the policy`;
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no ${what} of ${formatScope(scope)}`, {
        hint: "'farpool admin policies' lists them",
      });
    }
    const removed = new Set(fields ?? []);
    const left = Object.entries(before.fields).filter(([field]) => fields !== null && !isIn(removed, field));
    const mine = { scope_kind: scope.kind, scope_name: scope.name };
    if (left.length === 0) {
      await tx
        .deleteFrom("policies")
        .where("scope_kind", "=", mine.scope_kind)
        .where("scope_name", "=", mine.scope_name)
        .execute();
    } else {
      await tx
        .updateTable("policies")
        .set({ fields: JSON.stringify(Object.fromEntries(left)), updated_at: now() })
        .where("scope_kind", "=", mine.scope_kind)
        .where("scope_name", "=", mine.scope_name)
        .execute();
    }
    const what =
      fields === null ? "removed" : `removed: ${fields.map((field) => FIELD_TITLES[field]).join(", ")}`;
    await recordChange(tx, scope, what);
  });
}

const isIn = (names: ReadonlySet<string>, name: string): boolean => names.has(name);

/** A policy for a misspelt client or group would bind nobody and nobody would notice. */
async function requireScope(tx: Tx, scope: PolicyScope): Promise<void> {
  if (scope.kind === "client") {
    const known = await tx
      .selectFrom("clients")
      .select("thumbprint")
      .where("thumbprint", "=", scope.name)
      .executeTakeFirst();
    if (known === undefined)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client with the key ${scope.name}`, {
        hint: "'farpool admin clients list' lists them",
      });
  }
  if (scope.kind === "group") {
    const known = await tx
      .selectFrom("user_groups")
      .select("name")
      .where("name", "=", scope.name)
      .executeTakeFirst();
    if (known === undefined)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no group '${scope.name}'`, {
        hint: `'farpool admin groups add ${scope.name} USER…' makes it`,
      });
  }
}

async function find(tx: Tx, scope: PolicyScope): Promise<Policy | undefined> {
  const row = await tx
    .selectFrom("policies")
    .selectAll()
    .where("scope_kind", "=", scope.kind)
    .where("scope_name", "=", scope.name)
    .executeTakeFirst();
  return row === undefined ? undefined : toPolicy(row);
}

function toPolicy(row: Selectable<PoliciesTable>): Policy {
  return {
    scope: policyScopeSchema.parse({ kind: row.scope_kind, name: row.scope_name }),
    fields: policyFieldsSchema.parse(row.fields),
    updatedAt: row.updated_at.toISOString(),
  };
}

async function recordChange(tx: Tx, scope: PolicyScope, what: string): Promise<void> {
  const clientKey = scope.kind === "client" ? scope.name : null;
  await recordAudit(tx, {
    kind: "policy-changed",
    clientKey,
    reason: `policy of ${formatScope(scope)}: ${what}, by an administrator`,
  });
}

function describeFields(fields: PolicyFields): string {
  return policyFieldNames
    .flatMap((field) => {
      const setting = fields[field];
      if (setting === undefined) return [];
      const hard = setting.hard ? ", hard" : "";
      return [`${FIELD_TITLES[field]} ${formatFieldValue(field, setting.value)}${hard}`];
    })
    .join("; ");
}

/** What a client is called, for sentences. */
export async function readClientNames(db: Database, key: string | null): Promise<ClientNames> {
  if (key === null) return new Map();
  const rows = await db
    .selectFrom("clients")
    .select(["thumbprint", "name"])
    .where(sql<boolean>`thumbprint = ${key}`)
    .execute();
  return new Map(rows.map((row) => [row.thumbprint, row.name]));
}

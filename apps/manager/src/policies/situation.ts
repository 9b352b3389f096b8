import {
  clientSpecificationSchema,
  MIB,
  policyFieldsSchema,
  policyScopeSchema,
  type ClientSpecification,
  type Policy,
  type SessionId,
  type SessionPurpose,
  type Size,
  type Thumbprint,
} from "@farpool/contract";
import type { ServerCapacity } from "@farpool/domain";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import { mappedUser, type MappedUser } from "../identity/persons.ts";
import { budgetTerms, type BudgetTerms } from "../usage/budgets.ts";
import { mostMemory } from "./allowed-servers.ts";
import type { LivingSession } from "./holdings.ts";
import type { Asker } from "./subject.ts";

/** All that a request is judged by, but for what others hold. */
export interface Situation {
  /** Undefined: it has never been here. */
  readonly client: KnownClient | undefined;
  /** To whom the account of the client is mapped. */
  readonly mapped: MappedUser | null;
  readonly groups: readonly string[];
  readonly policies: ReadonlyArray<Pick<Policy, "scope" | "fields">>;
  readonly specification: ClientSpecification | null;
  readonly budgets: BudgetTerms;
}

export interface KnownClient {
  readonly revokedAt: string | null;
  readonly revokedReason: string | null;
}

interface Row {
  readonly client: KnownClient | null;
  readonly mapped: MappedUser | null;
  readonly groups: readonly string[] | null;
  readonly policies: ReadonlyArray<{
    readonly kind: string;
    readonly name: string;
    readonly fields: unknown;
  }> | null;
  readonly specification: unknown;
  readonly budgets: BudgetTerms;
}

export interface LivingRow {
  readonly id: SessionId;
  readonly purpose: SessionPurpose;
  readonly user: string | null;
  readonly client: Thumbprint | null;
  readonly project: string | null;
  readonly count: number;
  readonly size: Size;
  readonly memoryAllowed: number | null;
  readonly placedBytes: number | null;
}

export interface Question {
  readonly clientKey: Thumbprint;
  /** The account as the client reports it, and the client's name. */
  readonly account: string;
  readonly host: string;
  /** Who has signed in. */
  readonly signedIn: string | null;
  readonly project: string | null;
}

/** One statement: it is read for every request. Before placement, so that nobody waits for it. */
export async function readSituation(
  db: Database,
  { clientKey, account, host, signedIn, project }: Question,
): Promise<Situation> {
  const { rows } = await sql<Row>`
    with person as materialized (select ${mappedUser(clientKey, account)} as mapped),
    who as materialized (
      select coalesce(${signedIn}::text, mapped->>'name', ${`${account}@${host}`}::text) as name from person
    ),
    mine as (select group_name from user_group_members where user_name = (select name from who))
    select
      (select json_build_object('revokedAt', revoked_at, 'revokedReason', revoked_reason)
         from clients where thumbprint = ${clientKey}) as client,
      (select mapped from person) as mapped,
      (select json_agg(group_name order by group_name) from mine) as groups,
      (select json_agg(json_build_object('kind', scope_kind, 'name', scope_name, 'fields', fields) order by scope_name)
         from policies
        where scope_kind = 'pool'
           or (scope_kind = 'user' and scope_name = (select name from who))
           or (scope_kind = 'group' and scope_name in (select group_name from mine))
           or (scope_kind = 'client' and scope_name = ${clientKey})
           or (scope_kind = 'project' and scope_name = ${project})) as policies,
      (select specification from client_specifications where client_key = ${clientKey}) as specification,
      ${budgetTerms(sql<boolean>`(scope = 'user' and subject = (select name from who)
          or scope = 'project' and subject = ${project})`)} as budgets`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  return {
    client: row.client ?? undefined,
    mapped: row.mapped,
    groups: row.groups ?? [],
    policies: (row.policies ?? []).map(({ kind, name, fields }) => ({
      scope: policyScopeSchema.parse({ kind, name }),
      fields: policyFieldsSchema.parse(fields),
    })),
    specification: clientSpecificationSchema.nullable().parse(row.specification),
    budgets: row.budgets,
  };
}

/** What the same user, client or project has, as a column of a statement in the placement transaction: limits count it. */
export function livingColumn({ user, clientKey, project }: Asker): RawBuilder<readonly LivingRow[] | null> {
  return sql<readonly LivingRow[] | null>`(
    select json_agg(json_build_object('id', id, 'purpose', purpose, 'user', policy_user, 'client', client_key,
             'project', project, 'count', requested_count, 'size', size, 'memoryAllowed', memory_allowed_bytes,
             'placedBytes', (select sum(coalesce(memory_limit_bytes, memory_total_bytes))
                               from session_gpus join gpus on gpus.uuid = gpu_uuid where session_id = sessions.id))
             order by queue_number)
      from sessions
     where state <> 'ended'
       and (policy_user = ${user} or client_key = ${clientKey} or project = ${project}))`;
}

/** Who waits counts as if it had got what it waits for. */
export function toLiving(
  { id, purpose, user, client, project, count, size, memoryAllowed, placedBytes }: LivingRow,
  servers: readonly ServerCapacity[],
): LivingSession {
  const most = Math.max(0, ...servers.map((server) => mostMemory({ count, size }, server)));
  const bytes = placedBytes ?? Math.min(most, memoryAllowed ?? most);
  return {
    ...{ id, purpose, user, client, project },
    holding: { gpus: count, memoryMib: Math.ceil(bytes / MIB), sessions: 1 },
  };
}

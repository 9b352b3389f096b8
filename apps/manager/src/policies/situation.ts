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
import type { ClientNames } from "@farpool/policies";
import { sql } from "kysely";
import type { Tx } from "../database/connect.ts";
import { budgetTerms, subjectsOf, type BudgetTerms } from "../usage/budgets.ts";
import { mostMemory } from "./allowed-servers.ts";
import type { LivingSession } from "./holdings.ts";
import type { Asker } from "./subject.ts";

/** All that a request is judged by. */
export interface Situation {
  readonly groups: readonly string[];
  readonly policies: ReadonlyArray<Pick<Policy, "scope" | "fields">>;
  readonly specification: ClientSpecification | null;
  readonly names: ClientNames;
  /** Of the same user, client or project. */
  readonly living: readonly LivingSession[];
  readonly budgets: BudgetTerms;
}

interface Row {
  readonly groups: readonly string[] | null;
  readonly policies: ReadonlyArray<{
    readonly kind: string;
    readonly name: string;
    readonly fields: unknown;
  }> | null;
  readonly specification: unknown;
  readonly client_name: string | null;
  readonly living: readonly LivingRow[] | null;
  readonly budgets: BudgetTerms;
}

interface LivingRow {
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

/** One statement: it is read for every request. */
export async function readSituation(
  tx: Tx,
  { user, clientKey, project }: Asker,
  servers: readonly ServerCapacity[],
): Promise<Situation> {
  const { rows } = await sql<Row>`
    with mine as (select group_name from user_group_members where user_name = ${user})
    select
      (select json_agg(group_name order by group_name) from mine) as groups,
      (select json_agg(json_build_object('kind', scope_kind, 'name', scope_name, 'fields', fields) order by scope_name)
         from policies
        where scope_kind = 'pool'
           or (scope_kind = 'user' and scope_name = ${user})
           or (scope_kind = 'group' and scope_name in (select group_name from mine))
           or (scope_kind = 'client' and scope_name = ${clientKey})
           or (scope_kind = 'project' and scope_name = ${project})) as policies,
      (select specification from client_specifications where client_key = ${clientKey}) as specification,
      (select name from clients where thumbprint = ${clientKey}) as client_name,
      (select json_agg(json_build_object('id', id, 'purpose', purpose, 'user', policy_user, 'client', client_key,
                'project', project, 'count', requested_count, 'size', size, 'memoryAllowed', memory_allowed_bytes,
                'placedBytes', (select sum(coalesce(memory_limit_bytes, memory_total_bytes))
                                  from session_gpus join gpus on gpus.uuid = gpu_uuid where session_id = sessions.id))
                order by queue_number)
         from sessions
        where state <> 'ended'
          and (policy_user = ${user} or client_key = ${clientKey} or project = ${project})) as living,
      ${budgetTerms(subjectsOf([{ user, project }]))} as budgets`.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  return {
    groups: row.groups ?? [],
    policies: (row.policies ?? []).map(({ kind, name, fields }) => ({
      scope: policyScopeSchema.parse({ kind, name }),
      fields: policyFieldsSchema.parse(fields),
    })),
    specification: clientSpecificationSchema.nullable().parse(row.specification),
    names: new Map(row.client_name === null ? [] : [[clientKey, row.client_name]]),
    living: (row.living ?? []).map((each) => toLiving(each, servers)),
    budgets: row.budgets,
  };
}

/** Who waits counts as if it had got what it waits for. */
function toLiving(
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

import { randomUUID } from "node:crypto";
import {
  FarpoolError,
  type Budget,
  type BudgetAction,
  type BudgetScope,
  type budgetNameSchema,
  type budgetRequestSchema,
} from "@farpool/contract";
import { formatAmount, monthOf, startOfMonth } from "@farpool/usage";
import { sql, type RawBuilder } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { heldSessions, toHeldSession, type HeldSessionRow } from "./holdings.ts";
import type { PoolTariff } from "./tariff.ts";
import { tell } from "./telling.ts";

/** Whose budgets are asked for. */
export interface Spender {
  readonly user: string;
  readonly project: string | null;
}

/** A budget that is spent. */
export interface SpentBudget {
  readonly scope: BudgetScope;
  readonly subject: string;
  readonly action: BudgetAction;
  readonly spent: number;
  readonly amount: number;
  /** Budget, what is spent of it, and what it allows, in a sentence. */
  readonly sentence: string;
}

/** From the mildest to the hardest. */
const ACTIONS: readonly BudgetAction[] = ["warn", "queue-last", "refuse"];

type Key = `${BudgetScope}/${string}`;

interface BudgetRow {
  readonly id: string;
  readonly scope: BudgetScope;
  readonly subject: string;
  readonly amount: number;
  readonly action: BudgetAction;
}

/** Budgets, and by what they are reckoned. */
export interface BudgetTerms extends PoolTariff {
  readonly budgets: readonly BudgetRow[];
}

interface Subjects {
  readonly users: readonly string[];
  readonly projects: readonly string[];
}

/** A column of whatever statement is made anyway: the budgets that are meant, of the table `budgets`. */
export function budgetTerms(isMeant: RawBuilder<boolean>): RawBuilder<BudgetTerms> {
  return sql<BudgetTerms>`(
    select json_build_object('currency', currency, 'timeZone', time_zone,
      'nowMs', floor(extract(epoch from clock_timestamp()) * 1000),
      'prices', (select coalesce(json_agg(json_build_object('model', model, 'perHour', per_hour,
         'fromMs', floor(extract(epoch from from_at) * 1000), 'toMs', floor(extract(epoch from to_at) * 1000))), '[]')
         from prices),
      'budgets', (select coalesce(json_agg(json_build_object('id', id, 'scope', scope, 'subject', subject,
         'amount', amount, 'action', action) order by scope, subject), '[]')
         from budgets where ${isMeant}))
      from billing_settings)`;
}

/** The budgets of these, or all. */
function budgetsOf(of: Subjects | null): RawBuilder<boolean> {
  return of === null
    ? sql<boolean>`true`
    : sql<boolean>`(scope = 'user' and subject = any(${of.users}::text[])
        or scope = 'project' and subject = any(${of.projects}::text[]))`;
}

async function readTerms(db: Database, of: Subjects | null): Promise<BudgetTerms> {
  const { rows } = await sql<{ terms: BudgetTerms }>`select ${budgetTerms(budgetsOf(of))} as terms`.execute(
    db,
  );
  const [row] = rows;
  if (row === undefined) throw new Error("a statement without a table answered no row");
  return row.terms;
}

/**
 * The hardest of the budgets that are spent, for each spender, or undefined. One look for all of them, so placement can ask
 * for a whole queue.
 */
export async function spentBudgets(
  db: Database,
  spenders: readonly Spender[],
): Promise<ReadonlyArray<SpentBudget | undefined>> {
  return spentOf(db, spenders, await readTerms(db, subjectsOf(spenders)));
}

/** The same, where the budgets were read already. Without any budget nothing is summed. */
export async function spentOf(
  db: Database,
  spenders: readonly Spender[],
  terms: BudgetTerms,
): Promise<ReadonlyArray<SpentBudget | undefined>> {
  const { budgets, nowMs, timeZone, currency } = terms;
  if (budgets.length === 0) return spenders.map(() => undefined);
  const spent = await readSpent(db, terms);
  const month = monthOf(nowMs, timeZone);
  return spenders.map((spender) => {
    const keys = keysOf(spender);
    return budgets
      .filter(({ scope, subject }) => keys.includes(`${scope}/${subject}`))
      .map((budget): SpentBudget => {
        const used = spent.get(`${budget.scope}/${budget.subject}`) ?? 0;
        const [has, may] = [formatAmount(used), formatAmount(budget.amount)];
        const sentence = `the budget of the ${budget.scope} ${budget.subject} for ${month} is spent: ${has} of ${may} ${currency}`;
        return { ...budget, spent: used, sentence };
      })
      .filter(({ spent: used, amount }) => used >= amount)
      .toSorted((a, b) => ACTIONS.indexOf(b.action) - ACTIONS.indexOf(a.action))[0];
  });
}

/** The refusal of a session by a budget: which, how much is spent of how much, and who can change it. */
export function refusalOfBudget({ sentence }: SpentBudget): FarpoolError {
  return new FarpoolError("FARPOOL_OVER_BUDGET", `${sentence}; no new sessions until the month is over`);
}

function keysOf({ user, project }: Spender): Key[] {
  return project === null ? [`user/${user}`] : [`user/${user}`, `project/${project}`];
}

function subjectsOf(spenders: readonly Spender[]): Subjects {
  return {
    users: [...new Set(spenders.map(({ user }) => user))],
    projects: [...new Set(spenders.flatMap(({ project }) => project ?? []))],
  };
}

interface Charged {
  readonly user_name: string;
  readonly project: string | null;
  readonly cost: number;
}

/** What was charged this month, per user and project, with what goes on so far: one statement, so one moment. */
async function readSpent(db: Database, terms: BudgetTerms): Promise<ReadonlyMap<Key, number>> {
  const named = (wanted: BudgetScope): string[] =>
    terms.budgets.flatMap(({ scope, subject }) => (scope === wanted ? [subject] : []));
  const of = { users: named("user"), projects: named("project") };
  const fromMs = startOfMonth(terms.nowMs, terms.timeZone);
  const { rows } = await sql<{ charged: readonly Charged[] | null; held: readonly HeldSessionRow[] | null }>`
    select (select json_agg(charge) from (
        select user_name, project, sum(cost)::bigint as cost from usage_records
         where from_at >= ${new Date(fromMs)}
           and (user_name = any(${of.users}::text[]) or project = any(${of.projects}::text[]))
         group by 1, 2) charge) as charged,
      (select json_agg(held) from (${heldSessions({ after: null, limit: 1_000_000, of })}) held) as held`.execute(
    db,
  );
  const [row] = rows;
  const spent = new Map<Key, number>();
  const add = (spender: Spender, cost: number): void => {
    for (const key of keysOf(spender)) spent.set(key, (spent.get(key) ?? 0) + cost);
  };
  for (const { user_name: user, project, cost } of row?.charged ?? []) add({ user, project }, cost);
  for (const session of (row?.held ?? []).map(toHeldSession)) {
    const { gpus } = tell(session, [], { tariff: terms, untilMs: terms.nowMs, isOver: true });
    const cost = gpus.reduce((sum, gpu) => sum + (gpu.fromMs >= fromMs ? gpu.cost : 0), 0);
    add({ user: session.user_name, project: session.project }, cost);
  }
  return spent;
}

export async function listBudgets(db: Database): Promise<{ currency: string; budgets: Budget[] }> {
  const terms = await readTerms(db, null);
  const spent = await readSpent(db, terms);
  const budgets = terms.budgets.map((budget) => ({
    ...budget,
    spent: spent.get(`${budget.scope}/${budget.subject}`) ?? 0,
  }));
  return { currency: terms.currency, budgets };
}

export async function setBudget(
  db: Database,
  request: z.output<typeof budgetRequestSchema>,
): Promise<Budget> {
  const { scope, subject, amount, action } = request;
  await db
    .insertInto("budgets")
    .values({ id: randomUUID(), scope, subject, amount, action })
    .onConflict((conflict) => conflict.columns(["scope", "subject"]).doUpdateSet({ amount, action }))
    .execute();
  return find(await listBudgets(db), { scope, subject });
}

export async function removeBudget(
  db: Database,
  { scope, subject }: z.output<typeof budgetNameSchema>,
): Promise<{ budgets: Budget[] }> {
  find(await listBudgets(db), { scope, subject });
  await db.deleteFrom("budgets").where("scope", "=", scope).where("subject", "=", subject).execute();
  return listBudgets(db);
}

function find(
  { budgets }: { readonly budgets: readonly Budget[] },
  { scope, subject }: z.output<typeof budgetNameSchema>,
): Budget {
  const found = budgets.find((budget) => budget.scope === scope && budget.subject === subject);
  if (found !== undefined) return found;
  throw new FarpoolError("FARPOOL_NOT_FOUND", `the ${scope} ${subject} has no budget`, {
    hint: "'farpool admin budgets' lists all budgets",
  });
}

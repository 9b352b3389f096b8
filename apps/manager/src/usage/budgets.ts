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
import { sql } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { readHeldSessions } from "./holdings.ts";
import type { Range } from "./report.ts";
import { readTariff, type PoolTariff } from "./tariff.ts";
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

/**
 * The hardest of the budgets that are spent, for each spender, or undefined. One look for all of them, so placement can ask
 * for a whole queue. Without any budget nothing is summed.
 */
export async function spentBudgets(
  db: Database,
  spenders: readonly Spender[],
): Promise<ReadonlyArray<SpentBudget | undefined>> {
  const budgets = await db.selectFrom("budgets").selectAll().execute();
  const asked = new Set<Key>(spenders.flatMap(keysOf));
  const relevant = budgets.filter(({ scope, subject }) => asked.has(`${scope}/${subject}`));
  if (relevant.length === 0) return spenders.map(() => undefined);
  const tariff = await readTariff(db);
  const spent = await readSpent(db, tariff, subjectsOf(relevant));
  const month = monthOf(tariff.nowMs, tariff.timeZone);
  return spenders.map((spender) => {
    const keys = keysOf(spender);
    return relevant
      .filter(({ scope, subject }) => keys.includes(`${scope}/${subject}`))
      .map((budget): SpentBudget => {
        const used = spent.get(`${budget.scope}/${budget.subject}`) ?? 0;
        const [has, may] = [formatAmount(used), formatAmount(budget.amount)];
        const sentence = `the budget of the ${budget.scope} ${budget.subject} for ${month} is spent: ${has} of ${may} ${tariff.currency}`;
        return { ...budget, spent: used, sentence };
      })
      .filter(({ spent: used, amount }) => used >= amount)
      .toSorted((a, b) => ACTIONS.indexOf(b.action) - ACTIONS.indexOf(a.action))[0];
  });
}

export async function spentBudget(db: Database, spender: Spender): Promise<SpentBudget | undefined> {
  const [spent] = await spentBudgets(db, [spender]);
  return spent;
}

/** The refusal of a session by a budget: which, how much is spent of how much, and who can change it. */
export function refusalOfBudget({ sentence }: SpentBudget): FarpoolError {
  return new FarpoolError("FARPOOL_OVER_BUDGET", `${sentence}; no new sessions until the month is over`);
}

function keysOf({ user, project }: Spender): Key[] {
  return project === null ? [`user/${user}`] : [`user/${user}`, `project/${project}`];
}

interface Subjects {
  readonly users: readonly string[];
  readonly projects: readonly string[];
}

function subjectsOf(
  budgets: ReadonlyArray<{ readonly scope: BudgetScope; readonly subject: string }>,
): Subjects {
  const of = (wanted: BudgetScope): string[] =>
    budgets.flatMap(({ scope, subject }) => (scope === wanted ? [subject] : []));
  return { users: of("user"), projects: of("project") };
}

/** What was charged this month, per user and project, with what goes on so far. */
async function readSpent(db: Database, tariff: PoolTariff, of: Subjects): Promise<ReadonlyMap<Key, number>> {
  const range: Range = {
    fromMs: startOfMonth(tariff.nowMs, tariff.timeZone),
    toMs: tariff.nowMs + 1,
    user: null,
  };
  const { rows } = await sql<{ user_name: string; project: string | null; cost: number }>`
    select user_name, project, sum(cost)::bigint as cost from usage_records
     where from_at >= ${new Date(range.fromMs ?? 0)}
       and (user_name = any(${of.users}::text[]) or project = any(${of.projects}::text[]))
     group by 1, 2`.execute(db);
  const spent = new Map<Key, number>();
  const add = (spender: Spender, cost: number): void => {
    for (const key of keysOf(spender)) spent.set(key, (spent.get(key) ?? 0) + cost);
  };
  for (const { user_name: user, project, cost } of rows) add({ user, project }, cost);
  for (const session of await readHeldSessions(db, { after: null, limit: 1_000_000, of })) {
    const { gpus } = tell(session, [], { tariff, untilMs: tariff.nowMs, isOver: true });
    const cost = gpus.reduce((sum, gpu) => sum + (gpu.fromMs >= (range.fromMs ?? 0) ? gpu.cost : 0), 0);
    add({ user: session.user_name, project: session.project }, cost);
  }
  return spent;
}

export async function listBudgets(db: Database): Promise<{ currency: string; budgets: Budget[] }> {
  return db
    .transaction()
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const rows = await tx.selectFrom("budgets").selectAll().orderBy("scope").orderBy("subject").execute();
      const tariff = await readTariff(tx);
      const spent = await readSpent(tx, tariff, subjectsOf(rows));
      const budgets = rows.map(({ id, scope, subject, amount, action }) => ({
        id,
        scope,
        subject,
        amount,
        action,
        spent: spent.get(`${scope}/${subject}`) ?? 0,
      }));
      return { currency: tariff.currency, budgets };
    });
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

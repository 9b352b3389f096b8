import type { SessionId } from "@farpool/contract";
import { sql } from "kysely";
import { inPlacement, type Database } from "../database/connect.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { userOfSession } from "./attribution.ts";
import {
  refusalOfBudget,
  spentBudgets,
  spentOf,
  type BudgetTerms,
  type SpentBudget,
  type Spender,
} from "./budgets.ts";

/**
 * What of a new session's budgets is spent. Outside of placement: others need not wait while it is summed, and what ends or
 * begins meanwhile is counted the next time.
 */
export async function spentBudget(
  db: Database,
  spender: Spender,
  terms: BudgetTerms,
): Promise<SpentBudget | undefined> {
  const [spent] = await spentOf(db, [spender], terms);
  return spent;
}

/** Throws the refusal; what else a spent budget says is the caller's to keep. */
export function requireBudget(spent: SpentBudget | undefined): void {
  if (spent?.action === "refuse") throw refusalOfBudget(spent);
}

/** Those that wait go behind the others when their budget is spent meanwhile, and come back when it no longer is. */
export async function requeueByBudget(db: Database): Promise<void> {
  const before = await readWaiting(db);
  if (before.length === 0) return;
  const spent = await spentBudgets(db, before);
  const changed = before.filter(({ over }, index) => over !== isLast(spent[index]));
  if (changed.length === 0) return;
  await inPlacement(db, async (tx) => {
    for (const { id, over } of changed)
      await tx.updateTable("sessions").set({ over_budget: !over }).where("id", "=", id).execute();
    await runPlacementPass(tx);
  });
}

/** A budget that refuses new sessions lets those wait on that came before it was spent, behind all others. */
const isLast = (spent: SpentBudget | undefined): boolean => spent !== undefined && spent.action !== "warn";

interface Waiting extends Spender {
  readonly id: SessionId;
  readonly over: boolean;
}

async function readWaiting(db: Database): Promise<readonly Waiting[]> {
  const { rows } = await sql<Waiting>`
    select session.id, session.over_budget as over, ${userOfSession()} as user, to_jsonb(session)->>'project' as project
      from sessions session where session.state in ('requested', 'queued')`.execute(db);
  return rows;
}

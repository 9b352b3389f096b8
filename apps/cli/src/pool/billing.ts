import {
  FarpoolError,
  sessionIdSchema,
  type Budget,
  type BudgetAction,
  type BudgetScope,
  type PriceEntry,
} from "@farpool/contract";
import { formatAmount } from "@farpool/usage";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";

export async function prices(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listPrices", {}));
  if (isJson) printJson(answer);
  else if (answer.prices.length === 0) print("no prices: nothing is charged");
  else {
    const rows = answer.prices.map((price) => [
      price.model ?? "all others",
      price.perHour === null ? "none" : formatAmount(price.perHour),
      price.fromAt,
      price.toAt ?? "further notice",
    ]);
    print(table(["MODEL", `${answer.currency} PER GPU HOUR`, "FROM", "UNTIL"], rows));
  }
  return 0;
}

interface PriceOptions {
  readonly isJson: boolean;
  readonly model: string | undefined;
  readonly from: string | undefined;
  readonly to: string | undefined;
}

export async function setPrice(
  { isJson, model, from, to }: PriceOptions,
  perHour: number | null,
): Promise<number> {
  const { price, currency } = await withPool(async (client) => {
    const body = { model: model ?? null, perHour, fromAt: from ?? null, toAt: to ?? null };
    const set = await client.call("addPrice", { body });
    return { price: set, currency: (await client.call("billingSettings", {})).currency };
  });
  if (isJson) printJson(price);
  else
    say(
      `${described(price, currency)}, from ${price.fromAt}${price.toAt === null ? "" : ` until ${price.toAt}`}`,
    );
  return 0;
}

function described({ model, perHour }: PriceEntry, currency: string): string {
  const whose = model === null ? "a GPU of any model without a price of its own" : `a ${model}`;
  return perHour === null
    ? `${whose} has no price`
    : `${whose} costs ${formatAmount(perHour)} ${currency} per hour`;
}

interface SettingsOptions {
  readonly isJson: boolean;
  readonly currency: string | undefined;
  readonly timeZone: string | undefined;
}

export async function settings({ isJson, currency, timeZone }: SettingsOptions): Promise<number> {
  const body = { ...(currency !== undefined && { currency }), ...(timeZone !== undefined && { timeZone }) };
  const answer = await withPool((client) =>
    Object.keys(body).length === 0
      ? client.call("billingSettings", {})
      : client.call("changeBillingSettings", { body }),
  );
  if (isJson) printJson(answer);
  else print(`the pool charges in ${answer.currency}, by the days and months of ${answer.timeZone}`);
  return 0;
}

export async function budgets(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listBudgets", {}));
  if (isJson) printJson(answer);
  else if (answer.budgets.length === 0) print("no budgets");
  else {
    const rows = answer.budgets.map((budget) => [
      budget.scope,
      budget.subject,
      formatAmount(budget.spent),
      formatAmount(budget.amount),
      budget.spent >= budget.amount ? `${budget.action}, now` : budget.action,
    ]);
    print(table(["OF", "NAME", `SPENT ${answer.currency}`, "PER MONTH", "THEN"], rows));
  }
  return 0;
}

interface BudgetName {
  readonly scope: BudgetScope;
  readonly subject: string;
}

export async function setBudget(
  { isJson, action }: { readonly isJson: boolean; readonly action: BudgetAction | undefined },
  named: BudgetName & { readonly amount: number },
): Promise<number> {
  const budget: Budget = await withPool((client) =>
    client.call("setBudget", { body: { ...named, action: action ?? "warn" } }),
  );
  if (isJson) printJson(budget);
  else {
    const spent = `${formatAmount(budget.spent)} of ${formatAmount(budget.amount)}`;
    say(
      `the ${budget.scope} ${budget.subject} has spent ${spent} this month; when it is spent: ${budget.action}`,
    );
  }
  return 0;
}

export async function removeBudget(isJson: boolean, named: BudgetName): Promise<number> {
  const answer = await withPool((client) => client.call("removeBudget", { body: named }));
  if (isJson) printJson(answer);
  else say(`the ${named.scope} ${named.subject} has no budget any more: it is without limit`);
  return 0;
}

interface CorrectionOptions {
  readonly isJson: boolean;
  readonly credit: number | undefined;
  readonly charge: number | undefined;
  readonly reason: string | undefined;
}

export async function correct(options: CorrectionOptions, session: string): Promise<number> {
  const { credit, charge, reason, isJson } = options;
  if ((credit === undefined) === (charge === undefined) || reason === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", "a correction needs --credit or --charge, and --reason", {
      hint: "farpool admin usage correct s-7f3k2m9q --credit 2.50 --reason 'the cooling failed'",
    });
  }
  const sessionId = sessionIdSchema.safeParse(session);
  if (!sessionId.success)
    throw new FarpoolError("FARPOOL_USAGE", `'${session}' is not a session id`, {
      hint: "session ids look like s-7f3k2m9q; 'farpool usage --by session' lists them",
    });
  const amount = charge ?? -(credit ?? 0);
  const body = { sessionId: sessionId.data, amount, reason };
  const record = await withPool((client) => client.call("correctUsage", { body }));
  if (isJson) printJson(record);
  else say(`session ${record.sessionId}: ${formatAmount(record.cost)}, ${record.note ?? ""}`);
  return 0;
}

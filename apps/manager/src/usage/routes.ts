import { FarpoolError } from "@farpool/contract";
import type { FastifyInstance } from "fastify";
import type { Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { serve } from "../http/serve.ts";
import { readSession } from "../sessions/read.ts";
import { listBudgets, removeBudget, setBudget } from "./budgets.ts";
import { correctUsage } from "./corrections.ts";
import { listRecords } from "./records.ts";
import { reportUsage } from "./report.ts";
import { readSamples } from "./samples.ts";
import { addPrice, changeSettings, listPrices, readSettings } from "./tariff.ts";

export function registerUsageRoutes(app: FastifyInstance, db: Database): void {
  serve(app, "usage", ({ query }, _, caller) => reportUsage(db, { ...query, user: visibleTo(caller) }));
  serve(app, "usageRecords", ({ query }, _, caller) =>
    listRecords(db, { ...query, user: visibleTo(caller) }),
  );
  serve(app, "correctUsage", ({ body }) => correctUsage(db, body));
  serve(app, "sessionSamples", async ({ params, query }) => {
    await readSession(db, params.sessionId);
    return readSamples(db, params.sessionId, query.resolutionSeconds);
  });
  serve(app, "billingSettings", async () => {
    const { currency, timeZone } = await readSettings(db);
    return { currency, timeZone };
  });
  serve(app, "changeBillingSettings", ({ body }) => changeSettings(db, body));
  serve(app, "listPrices", () => listPrices(db));
  serve(app, "addPrice", ({ body }) => addPrice(db, body));
  serve(app, "listBudgets", () => listBudgets(db));
  serve(app, "setBudget", ({ body }) => setBudget(db, body));
  serve(app, "removeBudget", ({ body }) => removeBudget(db, body));
}

/** Whose usage somebody may see; null: everybody's. */
function visibleTo({ isAdministrator, user, description }: Principal): string | null {
  if (isAdministrator) return null;
  if (user !== null) return user.name;
  throw new FarpoolError("FARPOOL_NOT_PERMITTED", `usage is told to people, and ${description} is nobody`, {
    hint: "'farpool login' signs a person in",
  });
}

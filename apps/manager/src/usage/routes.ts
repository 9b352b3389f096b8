import type { FastifyInstance } from "fastify";
import type { Database } from "../database/connect.ts";
import { serve } from "../http/serve.ts";
import { readSession } from "../sessions/read.ts";
import { listBudgets, removeBudget, setBudget } from "./budgets.ts";
import { correctUsage } from "./corrections.ts";
import { listRecords } from "./records.ts";
import { reportUsage } from "./report.ts";
import { readSamples } from "./samples.ts";
import { addPrice, changeSettings, listPrices, readSettings } from "./tariff.ts";

export function registerUsageRoutes(app: FastifyInstance, db: Database): void {
  serve(app, "usage", ({ query }) => reportUsage(db, query));
  serve(app, "usageRecords", ({ query }) => listRecords(db, query));
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

import * as z from "zod";
import { serverIdSchema, sessionIdSchema } from "./ids.ts";
import type { RouteSpec } from "./route-spec.ts";
import { serverChangeSchema, serverSchema } from "./servers.ts";
import {
  billingSettingsChangeSchema,
  billingSettingsSchema,
  budgetNameSchema,
  budgetRequestSchema,
  budgetSchema,
  priceRequestSchema,
  priceSchema,
  samplesSchema,
  usageCorrectionSchema,
  usageKeySchema,
  usageRangeSchema,
  usageRecordSchema,
  usageRecordsSchema,
  usageReportSchema,
} from "./usage.ts";

const budgets = z.object({ budgets: z.array(budgetSchema) });

/** Usage, prices, budgets, and what administrators do with servers. */
export const USAGE_ROUTES = {
  usage: {
    method: "GET",
    path: "/v1/usage",
    summary: "Who used what: GPU time held, charged and busy, and its cost, summed",
    query: usageRangeSchema.extend({ by: usageKeySchema.default("user") }),
    response: usageReportSchema,
  },
  usageRecords: {
    method: "GET",
    path: "/v1/usage/records",
    summary: "The usage records themselves, and with the last page what goes on so far",
    query: usageRangeSchema.extend({
      after: z.coerce.number().int().min(0).default(0),
      limit: z.coerce.number().int().min(1).max(5_000).default(1_000),
    }),
    response: usageRecordsSchema,
  },
  correctUsage: {
    method: "POST",
    path: "/v1/usage/corrections",
    summary: "Add a record that corrects the cost of a session",
    body: usageCorrectionSchema,
    response: usageRecordSchema,
  },
  sessionSamples: {
    method: "GET",
    path: "/v1/sessions/{sessionId}/samples",
    summary: "How busy the processes of a session were, and their memory: every 10 s, 5 min or hour",
    params: z.object({ sessionId: sessionIdSchema }),
    query: z.object({
      resolutionSeconds: z.coerce
        .number()
        .pipe(z.literal([10, 300, 3_600]))
        .default(10),
    }),
    response: samplesSchema,
  },
  billingSettings: {
    method: "GET",
    path: "/v1/billing",
    summary: "The pool's currency and time zone",
    response: billingSettingsSchema,
  },
  changeBillingSettings: {
    method: "POST",
    path: "/v1/billing",
    summary: "Set the pool's currency and time zone, before anything was charged",
    body: billingSettingsChangeSchema,
    response: billingSettingsSchema,
  },
  listPrices: {
    method: "GET",
    path: "/v1/prices",
    summary: "All prices, those of the past and of the future too",
    response: z.object({ currency: z.string(), prices: z.array(priceSchema) }),
  },
  addPrice: {
    method: "POST",
    path: "/v1/prices",
    summary: "A price of a GPU model per hour, from now or a later moment on",
    body: priceRequestSchema,
    response: priceSchema,
  },
  listBudgets: {
    method: "GET",
    path: "/v1/budgets",
    summary: "All budgets, with what is spent of them this month",
    response: budgets.extend({ currency: z.string() }),
  },
  setBudget: {
    method: "POST",
    path: "/v1/budgets",
    summary: "Set what a project or user may spend in a month, and what happens then",
    body: budgetRequestSchema,
    response: budgetSchema,
  },
  removeBudget: {
    method: "POST",
    path: "/v1/budgets/remove",
    summary: "Take a budget away: the project or user is without limit",
    body: budgetNameSchema,
    response: budgets,
  },
  changeServer: {
    method: "POST",
    path: "/v1/servers/{serverId}",
    summary: "Drain a server, announce maintenance, or change its labels",
    params: z.object({ serverId: serverIdSchema }),
    body: serverChangeSchema,
    response: serverSchema,
  },
} as const satisfies Record<string, RouteSpec>;

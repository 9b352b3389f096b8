import * as z from "zod";
import { connectionIdSchema, gpuUuidSchema, sessionIdSchema } from "./ids.ts";
import { foreignText } from "./text.ts";

const instant = z.iso.datetime();
const ms = z.int();
/** Integers of 1/10,000 of the pool's currency. */
const amount = z.int();
const name = foreignText(200).min(1);

export const usageKeys = [
  "user",
  "client",
  "project",
  "server",
  "gpu",
  "model",
  "session",
  "program",
  "process",
  "day",
  "month",
] as const;
export const usageKeySchema = z.enum(usageKeys);
export type UsageKey = z.output<typeof usageKeySchema>;

/** A day, `2026-11-30`, or a month, `2026-11`, of the pool's time zone. */
export const usageDaySchema = z
  .string()
  .regex(
    /^\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?$/,
    "a day looks like 2026-11-30, a month like 2026-11",
  );

export const usageRangeSchema = z.object({
  /** Its first day; without it everything from the beginning. */
  from: usageDaySchema.optional(),
  /** Its last day, which belongs to it; without it everything up to now. */
  to: usageDaySchema.optional(),
});

/** Sums. GPU time is that of a whole GPU: half of one for an hour is half an hour. */
export const usageSumsSchema = z.object({
  sessions: z.int(),
  heldMs: ms,
  chargedMs: ms,
  busyMs: ms,
  cost: amount,
});
export type UsageSums = z.output<typeof usageSumsSchema>;

export const usageRowSchema = usageSumsSchema.extend({
  /** What it is summed by: null is "none", a session without a project, say. */
  key: z.string().nullable(),
  /** What else is told with the key: a session's user, a GPU's model and server, a process's program. */
  about: z.string().nullable(),
});
export type UsageRow = z.output<typeof usageRowSchema>;

export const billingSettingsSchema = z.object({
  currency: z.string().regex(/^[A-Z]{3}$/, "a currency has three capital letters, as ISO 4217 has them"),
  timeZone: z.string().min(1).max(64),
});
export const billingSettingsChangeSchema = billingSettingsSchema.partial();
export type BillingSettings = z.output<typeof billingSettingsSchema>;

export const usageReportSchema = billingSettingsSchema.extend({
  by: usageKeySchema,
  fromAt: instant.nullable(),
  toAt: instant,
  rows: z.array(usageRowSchema),
  total: usageSumsSchema,
});
export type UsageReport = z.output<typeof usageReportSchema>;

export const usageRecordSchema = z.object({
  /** Null: of a session that goes on, so far; it has no record yet. */
  id: z.int().nullable(),
  kind: z.enum(["usage", "correction"]),
  sessionId: sessionIdSchema,
  sessionName: z.string().nullable(),
  gpuUuid: gpuUuidSchema,
  model: z.string(),
  serverName: z.string(),
  user: z.string(),
  /** How it is known who that is: reported, mapped or signed in. */
  userSource: z.string(),
  client: z.string(),
  project: z.string().nullable(),
  labels: z.record(z.string(), z.string()),
  program: z.string().nullable(),
  fromAt: instant,
  toAt: instant,
  heldMs: ms,
  chargedMs: ms,
  busyMs: ms,
  pricePerHour: amount.nullable(),
  cost: amount,
  note: z.string().nullable(),
});
export type UsageRecord = z.output<typeof usageRecordSchema>;

export const usageRecordsSchema = billingSettingsSchema.extend({
  poolId: z.string(),
  records: z.array(usageRecordSchema),
  /** Where the next page begins; null: this was the last. */
  next: z.int().nullable(),
});

export const usageCorrectionSchema = z.object({
  sessionId: sessionIdSchema,
  /** What is added to its cost; what was too much is below zero. */
  amount,
  reason: foreignText(500).min(1),
});

export const sampleSchema = z.object({
  connectionId: connectionIdSchema,
  at: instant,
  busyMs: ms,
  memoryBytes: z.int(),
});
export const samplesSchema = z.object({ resolutionSeconds: z.int(), samples: z.array(sampleSchema) });

export const priceSchema = z.object({
  id: z.uuid(),
  /** Null: of all models without a price of their own. */
  model: z.string().nullable(),
  /** Per GPU and hour; null: none from here on. */
  perHour: amount.nullable(),
  fromAt: instant,
  toAt: instant.nullable(),
});
export type PriceEntry = z.output<typeof priceSchema>;

export const priceRequestSchema = z.object({
  model: name.nullable(),
  perHour: amount.min(0).max(9_999_999_999).nullable(),
  /** Null: from now on. */
  fromAt: z.iso.datetime({ offset: true }).nullable().default(null),
  toAt: z.iso.datetime({ offset: true }).nullable().default(null),
});

export const budgetScopes = ["project", "user"] as const;
export type BudgetScope = (typeof budgetScopes)[number];
export const budgetActions = ["warn", "queue-last", "refuse"] as const;
export type BudgetAction = (typeof budgetActions)[number];

const subject = { scope: z.enum(budgetScopes), subject: name };
export const budgetRequestSchema = z.object({
  ...subject,
  /** Per month of the pool's time zone. */
  amount: amount.min(0).max(99_999_999_999),
  action: z.enum(budgetActions),
});
export const budgetSchema = budgetRequestSchema.extend({ id: z.uuid(), spent: amount });
export type Budget = z.output<typeof budgetSchema>;
export const budgetNameSchema = z.object(subject);

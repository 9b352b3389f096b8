import * as z from "zod";
import { thumbprintSchema } from "./identity.ts";
import { connectionIdSchema, sessionIdSchema } from "./ids.ts";
import { userRoleSchema } from "./people.ts";
import type { RouteSpec } from "./route-spec.ts";
import { sessionDetailSchema } from "./sessions.ts";
import { foreignText } from "./text.ts";
import { budgetRequestSchema, usageRecordSchema } from "./usage.ts";

const instant = z.iso.datetime();

/** Which names usage reports and records tell. Command lines are never told, and not known to the pool. */
export const privacySettingsSchema = z.object({
  /** Off: the names of programs are not stored from then on, either. */
  tellsPrograms: z.boolean(),
  /** Off: an account that a client reports is told as `*@CLIENT`. */
  tellsAccounts: z.boolean(),
});
export type PrivacySettings = z.output<typeof privacySettingsSchema>;

export const privacyChangeSchema = privacySettingsSchema.partial();

/** All that the pool has of one person. Samples of her processes are asked for by session. */
export const personDataSchema = z.object({
  name: z.string(),
  exportedAt: instant,
  /** Null: no user of the pool, but an account that a client reports. */
  account: z
    .object({
      id: z.uuid(),
      role: userRoleSchema,
      hasPassword: z.boolean(),
      createdAt: instant,
      lastSignInAt: instant.nullable(),
      disabledAt: instant.nullable(),
    })
    .nullable(),
  /** Accounts of hers on clients, `account@client`. */
  places: z.array(z.string()),
  groups: z.array(z.string()),
  budgets: z.array(budgetRequestSchema.pick({ amount: true, action: true })),
  fairShareGpuSeconds: z.number(),
  tokens: z.array(
    z.object({
      kind: z.enum(["sign-in", "api"]),
      name: z.string(),
      createdAt: instant,
      expiresAt: instant,
      lastUsedAt: instant.nullable(),
    }),
  ),
  sessions: z.array(sessionDetailSchema),
  usageRecords: z.array(usageRecordSchema),
  processRecords: z.array(
    z.object({
      sessionId: sessionIdSchema,
      connectionId: connectionIdSchema.nullable(),
      program: z.string().nullable(),
      account: z.string(),
      fromAt: instant,
      toAt: instant,
      heldMs: z.int(),
      busyMs: z.int(),
      cost: z.int(),
    }),
  ),
  audit: z.array(
    z.object({
      at: instant,
      kind: z.string(),
      sessionId: z.string().nullable(),
      client: thumbprintSchema.nullable(),
      peer: z.string().nullable(),
      reason: z.string(),
    }),
  ),
});
export type PersonData = z.output<typeof personDataSchema>;

export const pseudonymisedSchema = z.object({
  pseudonym: z.string(),
  changed: z.array(z.object({ what: z.string(), count: z.int() })),
});
export type Pseudonymised = z.output<typeof pseudonymisedSchema>;

/** A user of the pool, or an account as usage reports name it: `dev1@ws-17`. */
const person = z.object({ name: foreignText(400).min(1) });

export const PRIVACY_ROUTES = {
  privacySettings: {
    method: "GET",
    path: "/v1/privacy",
    summary: "Which names usage reports tell",
    response: privacySettingsSchema,
  },
  changePrivacySettings: {
    method: "POST",
    path: "/v1/privacy",
    summary: "Switch the names of programs and accounts in usage reports on or off",
    body: privacyChangeSchema,
    response: privacySettingsSchema,
  },
  exportPerson: {
    method: "GET",
    path: "/v1/persons",
    summary: "All that the pool has of a person",
    query: person,
    response: personDataSchema,
  },
  pseudonymisePerson: {
    method: "POST",
    path: "/v1/persons/pseudonymise",
    summary: "Take a person's name and account from all records; their sums stay",
    body: person,
    response: pseudonymisedSchema,
  },
} as const satisfies Record<string, RouteSpec>;

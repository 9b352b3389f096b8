import * as z from "zod";
import { thumbprintSchema } from "./identity.ts";
import { sizeSchema } from "./sizes.ts";
import { foreignText } from "./text.ts";

/** Whom a policy is for, the most specific first. */
export const policyScopeKinds = ["user", "group", "client", "project", "pool"] as const;
export type PolicyScopeKind = (typeof policyScopeKinds)[number];

/** An account as the pool shows it: `dev1@ws-17` as a client reports it, or a name that signs in. */
export const userNameSchema = foreignText(401).regex(/^\S+$/, "a user's name has no spaces");
export const groupNameSchema = z
  .string()
  .regex(/^[\w.-]{1,64}$/, "a group's name has 1 to 64 letters, digits or ._-");
export const projectNameSchema = z
  .string()
  .regex(/^[\w.-]{1,64}$/, "a project's name has 1 to 64 letters, digits or ._-");

export const policyScopeSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("user"), name: userNameSchema }),
  z.object({ kind: z.literal("group"), name: groupNameSchema }),
  /** By its key: what a client calls itself is its own word. */
  z.object({ kind: z.literal("client"), name: thumbprintSchema }),
  z.object({ kind: z.literal("project"), name: projectNameSchema }),
  z.object({ kind: z.literal("pool"), name: z.literal("") }),
]);
export type PolicyScope = z.output<typeof policyScopeSchema>;

export const labelNameSchema = z
  .string()
  .regex(/^[\w./-]{1,63}$/, "a label's name has 1 to 63 letters, digits or ._/-");
export const labelValueSchema = z
  .string()
  .regex(/^[\w.@:+-]{0,63}$/, "a label's value has at most 63 letters, digits or ._@:+-");
export const labelsSchema = z
  .record(labelNameSchema, labelValueSchema)
  .refine((labels) => Object.keys(labels).length <= 32, "there are at most 32 labels");
export type Labels = z.output<typeof labelsSchema>;

/** `zone=a,b`: the label has one of the values. */
export const labelRequirementSchema = z.object({
  label: labelNameSchema,
  values: z.array(labelValueSchema).min(1).max(64),
});
export type LabelRequirement = z.output<typeof labelRequirementSchema>;

const LONGEST_MS = 10 * 365 * 86_400_000;
const number = (least: number, most: number) => z.int().min(least).max(most).nullable();
const setting = <T extends z.ZodType>(value: T) => z.object({ value, hard: z.boolean().default(false) });

/** Every field a policy may set. Null is *without limit*, which is not the same as not set. */
export const policyFieldsSchema = z.object({
  /** GPUs at once, slices counting as GPUs. */
  gpus: setting(number(0, 100_000)).optional(),
  /** GPU memory at once. */
  memoryMib: setting(number(0, 1 << 30)).optional(),
  sessions: setting(number(0, 100_000)).optional(),
  /** The highest priority that may be asked for. */
  priority: setting(number(0, 100)).optional(),
  idleTimeoutMs: setting(number(1, LONGEST_MS)).optional(),
  maxDurationMs: setting(number(1, LONGEST_MS)).optional(),
  waitMs: setting(number(0, LONGEST_MS)).optional(),
  /** All of them must hold of a server. */
  servers: setting(z.array(labelRequirementSchema).min(1).max(32).nullable()).optional(),
  /** Only the client's service may have a session. */
  serviceOnly: setting(z.boolean()).optional(),
});
export type PolicyFields = z.output<typeof policyFieldsSchema>;
export type PolicyFieldName = keyof PolicyFields;
export const policyFieldNames = [
  "gpus",
  "memoryMib",
  "sessions",
  "priority",
  "idleTimeoutMs",
  "maxDurationMs",
  "waitMs",
  "servers",
  "serviceOnly",
] as const satisfies readonly PolicyFieldName[];
export const policyFieldNameSchema = z.enum(policyFieldNames);

export const policySchema = z.object({
  scope: policyScopeSchema,
  fields: policyFieldsSchema,
  updatedAt: z.iso.datetime(),
});
export type Policy = z.output<typeof policySchema>;

/** How the pool came to know who a session's user is; the last wins. */
export const policyUserSources = ["reported", "mapped", "signed-in"] as const;
export type PolicyUserSource = (typeof policyUserSources)[number];

/** One field as it holds for somebody, and why. */
export const fieldExplanationSchema = z.object({
  field: policyFieldNameSchema,
  /** For people: `4`, `8 h`, `without limit`. */
  value: z.string(),
  hard: z.boolean(),
  /** Null: nobody has set it. */
  origin: policyScopeSchema.nullable(),
  originText: z.string(),
  whoCanChangeIt: z.string(),
  /** What others say, and why it does not hold. */
  overruled: z.array(z.object({ origin: policyScopeSchema, value: z.string(), why: z.string() })),
});
export type FieldExplanation = z.output<typeof fieldExplanationSchema>;

export const policyExplanationSchema = z.object({
  user: z.string().nullable(),
  source: z.enum(policyUserSources).nullable(),
  client: thumbprintSchema.nullable(),
  clientName: z.string().nullable(),
  project: z.string().nullable(),
  groups: z.array(groupNameSchema),
  fields: z.array(fieldExplanationSchema),
});
export type PolicyExplanation = z.output<typeof policyExplanationSchema>;

export const groupSchema = z.object({
  name: groupNameSchema,
  users: z.array(userNameSchema),
});
export type Group = z.output<typeof groupSchema>;

/** When a client's service has its GPUs. */
export const holdModes = ["always", "on-demand"] as const;

/** What the service of a client may have. The client's own file can only ask for less. */
export const clientSpecificationSchema = z.object({
  count: z.int().min(1).max(100_000),
  size: sizeSchema,
  /** Servers it may be on; empty: any. */
  filter: z.array(labelRequirementSchema).max(32).default([]),
  hold: z.enum(holdModes).default("always"),
  /** Null: never. */
  idleTimeoutMs: z.int().min(1).max(LONGEST_MS).nullable().default(null),
  /** The client gets no session but its service's. */
  serviceOnly: z.boolean().default(false),
  /** Other sessions beside the service's are allowed. */
  allowsOthers: z.boolean().default(false),
});
export type ClientSpecification = z.output<typeof clientSpecificationSchema>;

/** Whom a question about policies is for. */
export const policySubjectSchema = z.object({
  user: userNameSchema.optional(),
  client: thumbprintSchema.optional(),
  project: projectNameSchema.optional(),
});

import * as z from "zod";
import { thumbprintSchema } from "./identity.ts";
import { machineRoleSchema } from "./joining.ts";
import { policyUserSources } from "./policies.ts";
import type { RouteSpec } from "./route-spec.ts";
import { foreignText } from "./text.ts";

/** Somebody whom the pool knows. Of others it knows accounts, `dev1@ws-17`: no name of a user can be taken for one. */
export const poolUserNameSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,62}$/i, "a user's name has 1 to 63 letters, digits or ._-");

/** An administrator may do everything, a user what concerns her own sessions. */
export const userRoles = ["user", "administrator"] as const;
export const userRoleSchema = z.enum(userRoles);
export type UserRole = z.output<typeof userRoleSchema>;

/** Ten at least: what is shorter is guessed, what is longer than this is no password. */
export const passwordSchema = z
  .string()
  .min(10, "a password has 10 characters at least")
  .max(1_000, "a password has 1000 characters at most");

const instant = z.iso.datetime();
const ok = z.object({ ok: z.literal(true) });

export const userSchema = z.object({
  id: z.uuid(),
  name: poolUserNameSchema,
  role: userRoleSchema,
  hasPassword: z.boolean(),
  createdAt: instant,
  lastSignInAt: instant.nullable(),
  disabledAt: instant.nullable(),
});
export type User = z.output<typeof userSchema>;

/** An account of a client machine that an administrator declares to be a user of the pool. */
export const mappingSchema = z.object({
  client: thumbprintSchema,
  clientName: z.string(),
  account: z.string(),
  user: poolUserNameSchema,
});
export type Mapping = z.output<typeof mappingSchema>;

/** What an API token is good for: looking, having sessions, everything. */
export const tokenScopes = ["read", "sessions", "administer"] as const;
export const tokenScopeSchema = z.enum(tokenScopes);
export type TokenScope = z.output<typeof tokenScopeSchema>;

export const apiTokenSchema = z.object({
  id: z.uuid(),
  user: poolUserNameSchema,
  name: z.string(),
  /** A person's sign-in, or a token made for programs. */
  kind: z.enum(["sign-in", "api"]),
  scopes: z.array(tokenScopeSchema),
  createdAt: instant,
  expiresAt: instant,
  lastUsedAt: instant.nullable(),
  revokedAt: instant.nullable(),
});
export type ApiToken = z.output<typeof apiTokenSchema>;

export const signInSchema = z.object({
  /** A one-time code of a sign-in link, or a user and her password. */
  code: z.string().max(200).nullable().default(null),
  user: foreignText(200).nullable().default(null),
  password: z.string().max(1_000).nullable().default(null),
  /** For the list of sign-ins: the machine's name. */
  device: foreignText(200).default(""),
});

export const signedInSchema = z.object({
  user: poolUserNameSchema,
  role: userRoleSchema,
  token: z.string(),
  expiresAt: instant,
});

export const whoAmISchema = z.object({
  machine: z
    .object({ id: z.uuid(), role: machineRoleSchema, name: z.string(), certificateExpiresAt: instant })
    .nullable(),
  reported: z.string().nullable(),
  mapped: z.string().nullable(),
  signedIn: z.string().nullable(),
  source: z.enum(policyUserSources).nullable(),
  isAdministrator: z.boolean(),
  /** In words: how the manager came to know it. */
  because: z.string(),
});
export type WhoAmI = z.output<typeof whoAmISchema>;

const userParams = z.object({ userName: poolUserNameSchema });
const tokenParams = z.object({ tokenId: z.uuid() });

export const PEOPLE_ROUTES = {
  signIn: {
    method: "POST",
    path: "/v1/sign-in",
    summary: "A person signs in with a one-time code or a password",
    body: signInSchema,
    response: signedInSchema,
  },
  signOut: { method: "POST", path: "/v1/sign-out", summary: "The token that was sent ends", response: ok },
  whoAmI: {
    method: "GET",
    path: "/v1/whoami",
    summary: "Who the manager thinks is asking",
    query: z.object({ account: foreignText(200).optional() }),
    response: whoAmISchema,
  },
  createSignInCode: {
    method: "POST",
    path: "/v1/users/{userName}/sign-in-code",
    summary: "A link with which a user signs in once, within ten minutes",
    params: userParams,
    body: z.object({ url: z.string().max(300).nullable().default(null) }),
    response: z.object({ link: z.string(), expiresAt: instant }),
  },
  createUser: {
    method: "POST",
    path: "/v1/users",
    summary: "A new user",
    body: z.object({
      name: poolUserNameSchema,
      role: userRoleSchema.default("user"),
      password: passwordSchema.nullable().default(null),
    }),
    response: userSchema,
  },
  listUsers: {
    method: "GET",
    path: "/v1/users",
    summary: "All users, the disabled ones too",
    response: z.object({ users: z.array(userSchema) }),
  },
  setPassword: {
    method: "POST",
    path: "/v1/users/{userName}/password",
    summary: "A user's password; she is signed out everywhere",
    params: userParams,
    body: z.object({ password: passwordSchema }),
    response: userSchema,
  },
  disableUser: {
    method: "POST",
    path: "/v1/users/{userName}/disable",
    summary: "A user may sign in no longer, or again",
    params: userParams,
    body: z.object({ isDisabled: z.boolean() }),
    response: userSchema,
  },
  mapAccount: {
    method: "POST",
    path: "/v1/account-mappings",
    summary: "Declare an account of a client machine to be a user; without a user, no longer",
    body: z.object({
      client: thumbprintSchema,
      account: foreignText(200).min(1),
      user: poolUserNameSchema.nullable(),
    }),
    response: z.object({ mappings: z.array(mappingSchema) }),
  },
  listMappings: {
    method: "GET",
    path: "/v1/account-mappings",
    summary: "Accounts of client machines that are users of the pool",
    response: z.object({ mappings: z.array(mappingSchema) }),
  },
  createApiToken: {
    method: "POST",
    path: "/v1/api-tokens",
    summary: "A token for programs; it is told once",
    body: z.object({
      user: poolUserNameSchema,
      name: foreignText(200).min(1),
      scopes: z.array(tokenScopeSchema).min(1).max(3),
      validSeconds: z
        .int()
        .min(60)
        .max(366 * 86_400)
        .default(90 * 86_400),
    }),
    response: apiTokenSchema.extend({ token: z.string() }),
  },
  listApiTokens: {
    method: "GET",
    path: "/v1/api-tokens",
    summary: "API tokens and sign-ins that were made, without their secrets",
    response: z.object({ tokens: z.array(apiTokenSchema) }),
  },
  revokeApiToken: {
    method: "POST",
    path: "/v1/api-tokens/{tokenId}/revoke",
    summary: "A token opens nothing any more",
    params: tokenParams,
    response: apiTokenSchema,
  },
} as const satisfies Record<string, RouteSpec>;

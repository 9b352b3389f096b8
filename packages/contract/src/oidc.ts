import * as z from "zod";
import { signedInSchema } from "./people.ts";
import type { RouteSpec } from "./route-spec.ts";
import { foreignText } from "./text.ts";

/** Encrypted, but on the manager's own machine. */
const issuerSchema = z
  .url()
  .max(500)
  .refine(
    (text) => /^(https:\/\/|http:\/\/(localhost|127\.0\.0\.1|\[::1\])[:/])/.test(`${text}/`),
    "an issuer is an https address",
  );

/** The OpenID Connect provider at which people may sign in. */
export const oidcSettingsSchema = z.object({
  issuer: issuerSchema,
  clientId: foreignText(200).min(1),
  hasSecret: z.boolean(),
  /** Which claim names the user: of `email` the part before the @. */
  userClaim: foreignText(100).min(1),
  /** With `email`: of which domain addresses must be. Who has the same name at another one is somebody else. */
  emailDomain: z
    .string()
    .max(253)
    .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/i, "a domain looks like example.org")
    .nullable(),
  /** Whom the pool does not know is added as a user. */
  createsUsers: z.boolean(),
});
export type OidcSettings = z.output<typeof oidcSettingsSchema>;

export const oidcChangeSchema = z.object({
  /** Null: nobody signs in that way any more. */
  settings: oidcSettingsSchema
    .omit({ hasSecret: true })
    .extend({
      clientSecret: z.string().min(1).max(1_000).nullable().default(null),
      userClaim: oidcSettingsSchema.shape.userClaim.default("preferred_username"),
      emailDomain: oidcSettingsSchema.shape.emailDomain.default(null),
      createsUsers: z.boolean().default(false),
    })
    .refine(
      ({ userClaim, emailDomain }) => (userClaim === "email") === (emailDomain !== null),
      "the claim 'email' wants the domain of the addresses, and no other claim has one",
    )
    .nullable(),
});

/** What the person is shown, and what the machine keeps to ask with. */
export const oidcStartedSchema = z.object({
  flow: z.string(),
  verificationUri: z.string(),
  verificationUriComplete: z.string().nullable(),
  userCode: z.string(),
  intervalSeconds: z.int(),
  expiresAt: z.iso.datetime(),
});

const settings = z.object({ settings: oidcSettingsSchema.nullable() });

export const OIDC_ROUTES = {
  oidcSettings: {
    method: "GET",
    path: "/v1/oidc",
    summary: "The identity provider at which people may sign in",
    response: settings,
  },
  changeOidcSettings: {
    method: "POST",
    path: "/v1/oidc",
    summary: "Name the identity provider at which people may sign in, or none",
    body: oidcChangeSchema,
    response: settings,
  },
  beginOidc: {
    method: "POST",
    path: "/v1/sign-in/oidc",
    summary: "A person begins to sign in at the identity provider, with a code for her browser",
    response: oidcStartedSchema,
  },
  finishOidc: {
    method: "POST",
    path: "/v1/sign-in/oidc/finish",
    summary: "Whether she has signed in there; null: not yet, ask again after the interval",
    body: z.object({ flow: z.string().max(200), device: foreignText(200).default("") }),
    response: z.object({ signedIn: signedInSchema.nullable(), intervalSeconds: z.int() }),
  },
} as const satisfies Record<string, RouteSpec>;

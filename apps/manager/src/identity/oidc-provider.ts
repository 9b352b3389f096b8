import { FarpoolError, type OidcSettings } from "@farpool/contract";
import { createRemoteJWKSet, errors, jwtVerify, type JWTPayload } from "jose";
import * as z from "zod";

const PATIENCE_MS = 4_000;
const DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code";
/** RFC 8628, 3.2: where the provider names none. */
const USUAL_INTERVAL_S = 5;

const discoverySchema = z.object({
  issuer: z.string(),
  token_endpoint: z.url(),
  jwks_uri: z.url(),
  device_authorization_endpoint: z.url().optional(),
});
const deviceSchema = z.object({
  device_code: z.string().min(1),
  user_code: z.string().min(1).max(100),
  verification_uri: z.url().max(2_000),
  verification_uri_complete: z.url().max(2_000).optional(),
  expires_in: z.number().min(1).max(86_400),
  interval: z.number().min(1).max(300).default(USUAL_INTERVAL_S),
});
const tokenSchema = z.object({ id_token: z.string() });
const errorSchema = z.object({ error: z.string(), error_description: z.string().optional() });

export type OidcClient = Pick<OidcSettings, "issuer" | "clientId" | "userClaim"> & {
  readonly clientSecret: string | null;
};

export type DeviceAuthorization = z.output<typeof deviceSchema>;

/** The provider's device authorization (RFC 8628): the person signs in wherever she has a browser. */
export async function authorizeDevice(client: OidcClient): Promise<DeviceAuthorization> {
  const { device_authorization_endpoint: endpoint } = await discover(client.issuer);
  if (endpoint === undefined)
    throw new FarpoolError(
      "FARPOOL_NOT_SUPPORTED",
      `the identity provider ${client.issuer} offers no device authorization (RFC 8628)`,
      { hint: "it has to be switched on there, for this client" },
    );
  const { json } = await post(endpoint, client, { scope: "openid profile email" });
  return understood(deviceSchema, json, `${client.issuer}: device authorization`);
}

/** Undefined: she has not signed in yet. `isHasty`: it wants to be asked less often. */
export async function askForPerson(
  client: OidcClient,
  deviceCode: string,
): Promise<{ readonly claims?: JWTPayload; readonly isHasty: boolean }> {
  const { issuer, token_endpoint: endpoint, jwks_uri: keys } = await discover(client.issuer);
  const { status, json } = await post(endpoint, client, {
    grant_type: DEVICE_GRANT,
    device_code: deviceCode,
  });
  if (status !== 200) {
    const { error, error_description: description } = understood(errorSchema, json, `${issuer}: token`);
    if (error === "authorization_pending" || error === "slow_down") return { isHasty: error === "slow_down" };
    const why = plain(description === undefined ? error : `${error}: ${description}`);
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the identity provider refused the sign-in (${why})`, {
      hint: "'farpool login --oidc' begins another one",
    });
  }
  const { id_token: token } = understood(tokenSchema, json, `${issuer}: token`);
  try {
    const { payload } = await jwtVerify(
      token,
      createRemoteJWKSet(new URL(keys), { timeoutDuration: PATIENCE_MS }),
      {
        issuer,
        audience: client.clientId,
        requiredClaims: ["sub", "exp"],
        clockTolerance: 60,
      },
    );
    return { claims: payload, isHasty: false };
  } catch (cause) {
    const why = plain(cause instanceof Error ? cause.message : String(cause));
    if (isOfKeys(cause))
      throw new FarpoolError(
        "FARPOOL_IDENTITY_PROVIDER",
        `${keys} does not tell the provider's keys (${why})`,
        {
          hint: "the manager's machine must reach it; 'farpool login --oidc' begins another sign-in",
          cause,
        },
      );
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `what ${issuer} says of the person cannot be trusted: ${why}`,
      {
        hint: "compare issuer and client id with what the provider has: 'farpool admin oidc'",
        cause,
      },
    );
  }
}

/** The provider's keys did not come: that says nothing about the person. */
function isOfKeys(error: unknown): boolean {
  const { JOSEError, JWKSInvalid, JWKSTimeout } = errors;
  if (!(error instanceof JOSEError)) return true;
  return error instanceof JWKSTimeout || error instanceof JWKSInvalid || error.code === JOSEError.code;
}

/** Asked anew each time: a sign-in is seldom, and keys and addresses change. */
export async function discover(issuer: string): Promise<z.output<typeof discoverySchema>> {
  const address = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
  const { status, json } = await request(address, { method: "GET" });
  if (status !== 200)
    throw new FarpoolError("FARPOOL_IDENTITY_PROVIDER", `${address} answered with HTTP status ${status}`, {
      hint: "the issuer is to be named as the provider names itself",
    });
  const found = understood(discoverySchema, json, address);
  if (found.issuer === issuer) return found;
  throw new FarpoolError(
    "FARPOOL_CONFLICT",
    `${address} is of the issuer '${plain(found.issuer)}', not of '${issuer}'`,
    {
      hint: "the issuer is to be named as the provider names itself, to the last character",
    },
  );
}

async function post(
  address: string,
  { clientId, clientSecret }: OidcClient,
  fields: Readonly<Record<string, string>>,
): Promise<Answer> {
  const basic = [clientId, clientSecret ?? ""].map(encodeURIComponent).join(":");
  const headers =
    clientSecret === null ? {} : { authorization: `Basic ${Buffer.from(basic).toString("base64")}` };
  const own = clientSecret === null ? { client_id: clientId } : {};
  return request(address, { method: "POST", headers, body: new URLSearchParams({ ...fields, ...own }) });
}

interface Answer {
  readonly status: number;
  readonly json: unknown;
}

async function request(address: string, init: RequestInit): Promise<Answer> {
  try {
    const answer = await fetch(address, {
      ...init,
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    return { status: answer.status, json: await answer.json().catch(() => undefined) };
  } catch (cause) {
    const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const why = plain(inner instanceof Error ? inner.message : String(inner));
    throw new FarpoolError(
      "FARPOOL_IDENTITY_PROVIDER",
      `the identity provider does not answer at ${address} (${why})`,
      {
        hint: "the manager's machine must reach it; NODE_EXTRA_CA_CERTS names a file with a certificate authority of your own",
        cause,
      },
    );
  }
}

/** What another machine says is no sentence of ours. */
function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?").slice(0, 300);
}

function understood<S extends z.ZodType>(schema: S, json: unknown, what: string): z.output<S> {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new FarpoolError(
    "FARPOOL_IDENTITY_PROVIDER",
    `${what}: the answer is not understood (${issue?.path.join(".") ?? ""}: ${issue?.message ?? ""})`,
    { hint: "the issuer must be an OpenID Connect provider" },
  );
}

import {
  FarpoolError,
  poolUserNameSchema,
  tokenScopes,
  type oidcChangeSchema,
  type OidcSettings,
  type oidcStartedSchema,
  type signedInSchema,
} from "@farpool/contract";
import type { JWTPayload } from "jose";
import { sql } from "kysely";
import type * as z from "zod";
import { now, nowPlus, type Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { insertToken } from "./api-tokens.ts";
import { countFailure, forgetFailures, requireFewFailures } from "./attempts.ts";
import { recordAudit } from "./audit.ts";
import { askForPerson, authorizeDevice, discover, type OidcClient } from "./oidc-provider.ts";
import { hashSecret, newSecret } from "./secrets.ts";
import { SIGN_IN_SECONDS } from "./sign-in.ts";
import { createUser, findUser, type UserRow } from "./users.ts";

/** Begun and not finished, by one address: each asks the provider. */
const MOST_BEGUN = 30;

export async function readOidc(db: Database): Promise<{ readonly settings: OidcSettings | null }> {
  const client = await readClient(db);
  if (client === undefined) return { settings: null };
  const { clientSecret, ...settings } = client;
  return { settings: { ...settings, hasSecret: clientSecret !== null } };
}

type StoredClient = OidcClient & Pick<OidcSettings, "createsUsers" | "emailDomain">;

async function readClient(db: Database): Promise<StoredClient | undefined> {
  const row = await db.selectFrom("oidc_settings").selectAll().executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    issuer: row.issuer,
    clientId: row.client_id,
    clientSecret: row.client_secret,
    userClaim: row.user_claim,
    emailDomain: row.email_domain,
    createsUsers: row.creates_users,
  };
}

/** Null: nobody signs in that way any more. Whom the pool trusts is asked before it is believed to be there. */
export async function changeOidc(
  db: Database,
  { settings }: z.output<typeof oidcChangeSchema>,
  by: Principal,
): Promise<{ readonly settings: OidcSettings | null }> {
  if (settings !== null) await discover(settings.issuer);
  await db.transaction().execute(async (tx) => {
    await tx.deleteFrom("oidc_settings").execute();
    await tx.deleteFrom("oidc_flows").execute();
    if (settings !== null)
      await tx
        .insertInto("oidc_settings")
        .values({
          issuer: settings.issuer,
          client_id: settings.clientId,
          client_secret: settings.clientSecret,
          user_claim: settings.userClaim,
          email_domain: settings.emailDomain,
          creates_users: settings.createsUsers,
        })
        .execute();
    const what = settings === null ? "no identity provider" : `the identity provider ${settings.issuer}`;
    await recordAudit(tx, {
      kind: "user-changed",
      reason: `${by.description} lets people sign in at ${what}`,
      peer: by.peer,
    });
  });
  return readOidc(db);
}

async function requireClient(db: Database): Promise<StoredClient> {
  const client = await readClient(db);
  if (client !== undefined) return client;
  throw new FarpoolError("FARPOOL_CONFLICT", "this pool trusts no identity provider", {
    hint: "'farpool admin oidc set' names one; 'farpool login' signs in with a password or a link",
  });
}

/** Begins a sign-in at the provider. The secret of it stays with the machine that asked. */
export async function beginOidc(
  db: Database,
  { peer }: Principal,
): Promise<z.output<typeof oidcStartedSchema>> {
  const client = await requireClient(db);
  const limits = [{ subject: `oidc from ${peer}`, most: MOST_BEGUN }];
  await requireFewFailures(db, limits);
  await countFailure(db, limits);
  const device = await authorizeDevice(client);
  const flow = newSecret();
  await db.deleteFrom("oidc_flows").where("expires_at", "<", now()).execute();
  const { expires_at: expiresAt } = await db
    .insertInto("oidc_flows")
    .values({
      secret_hash: hashSecret(flow),
      device_code: device.device_code,
      interval_s: Math.ceil(device.interval),
      expires_at: nowPlus(device.expires_in * 1_000),
    })
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  return {
    flow,
    verificationUri: device.verification_uri,
    verificationUriComplete: device.verification_uri_complete ?? null,
    userCode: device.user_code,
    intervalSeconds: Math.ceil(device.interval),
    expiresAt: expiresAt.toISOString(),
  };
}

interface Finishing {
  readonly flow: string;
  readonly device: string;
}

interface Finished {
  readonly signedIn: z.output<typeof signedInSchema> | null;
  readonly intervalSeconds: number;
}

/** Looks whether she has signed in meanwhile, as often as the provider wants to be asked. */
export async function finishOidc(
  db: Database,
  { flow, device }: Finishing,
  { peer }: Principal,
): Promise<Finished> {
  const client = await requireClient(db);
  const hash = hashSecret(flow);
  // Of two that ask at once one asks the provider.
  const due = await db
    .updateTable("oidc_flows")
    .set({ next_at: sql<Date>`clock_timestamp() + interval_s * interval '1 second'` })
    .where("secret_hash", "=", hash)
    .where("expires_at", ">", now())
    .where("next_at", "<=", now())
    .returning(["device_code", "interval_s"])
    .executeTakeFirst();
  if (due === undefined) return { signedIn: null, intervalSeconds: await requireFlow(db, hash) };
  try {
    const { claims, isHasty } = await askForPerson(client, due.device_code);
    if (claims === undefined) {
      const intervalSeconds = due.interval_s + (isHasty ? 5 : 0);
      await db
        .updateTable("oidc_flows")
        .set({ interval_s: intervalSeconds })
        .where("secret_hash", "=", hash)
        .execute();
      return { signedIn: null, intervalSeconds };
    }
    await db.deleteFrom("oidc_flows").where("secret_hash", "=", hash).execute();
    const user = await userOf(db, client, claims);
    await forgetFailures(db, `oidc from ${peer}`);
    return { signedIn: await letIn(db, { user, device, peer, issuer: client.issuer }), intervalSeconds: 0 };
  } catch (error) {
    if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_PERMITTED") {
      await db.deleteFrom("oidc_flows").where("secret_hash", "=", hash).execute();
      await recordAudit(db, {
        kind: "sign-in-refused",
        reason: `at ${client.issuer}: ${error.message}`,
        peer,
      });
    }
    throw error;
  }
}

async function requireFlow(db: Database, hash: string): Promise<number> {
  const row = await db
    .selectFrom("oidc_flows")
    .select("interval_s")
    .where("secret_hash", "=", hash)
    .where("expires_at", ">", now())
    .executeTakeFirst();
  if (row !== undefined) return row.interval_s;
  throw new FarpoolError(
    "FARPOOL_NOT_PERMITTED",
    "this sign-in was never begun, was finished, or took too long",
    {
      hint: "'farpool login --oidc' begins another one",
    },
  );
}

/**
 * Who it is in the pool: by the claim that the settings name. An address of e-mail counts only when the provider has verified it,
 * and of the domain that the settings name: providers let in guests and strangers, who have the same names elsewhere.
 */
async function userOf(
  db: Database,
  { userClaim, emailDomain, createsUsers, issuer }: StoredClient,
  claims: JWTPayload,
): Promise<UserRow> {
  const said = claims[userClaim];
  const refuse = (why: string, hint: string): FarpoolError =>
    new FarpoolError("FARPOOL_NOT_PERMITTED", why, { hint });
  if (typeof said !== "string" || said === "")
    throw refuse(
      `${issuer} does not say '${userClaim}' of the person (it says ${Object.keys(claims).toSorted().join(", ")})`,
      "'farpool admin oidc set --claim NAME' names another claim",
    );
  const [name, domain] = userClaim === "email" ? partsOf(said) : [said, null];
  if (userClaim === "email" && claims["email_verified"] !== true)
    throw refuse(
      `${issuer} has not verified the address ${printable(said)}`,
      "the provider has to verify it",
    );
  if (domain !== (emailDomain?.toLowerCase() ?? null))
    throw refuse(
      `the address ${printable(said)} is not one of ${emailDomain}`,
      "'farpool admin oidc set --email-domain' names the domain whose addresses count",
    );
  const found = await findUser(db, name);
  if (found !== undefined) {
    if (found.disabled_at === null) return found;
    throw refuse(`the user ${found.name} is disabled`, "an administrator of the pool may enable her");
  }
  const parsed = poolUserNameSchema.safeParse(name);
  if (!createsUsers || !parsed.success)
    throw refuse(
      `${issuer} says that it is '${printable(name)}', whom this pool does not know`,
      parsed.success
        ? "'farpool admin users add' adds her; 'farpool admin oidc set --create-users' does so by itself"
        : (parsed.error.issues[0]?.message ?? ""),
    );
  const { id } = await createUser(
    db,
    { name: parsed.data, role: "user", password: null },
    { ...PROVIDER, description: `the identity provider ${issuer}` },
  );
  return db.selectFrom("users").selectAll().where("id", "=", id).executeTakeFirstOrThrow();
}

/** Of an address: what is before its last @, and the domain. */
function partsOf(address: string): readonly [name: string, domain: string] {
  const at = address.lastIndexOf("@");
  return [address.slice(0, Math.max(0, at)), address.slice(at + 1).toLowerCase()];
}

const printable = (text: string): string => text.replaceAll(/\p{Cc}/gu, "?").slice(0, 100);

const PROVIDER: Principal = {
  machine: null,
  user: null,
  isAdministrator: false,
  description: "",
  peer: "local",
};

interface Guest {
  readonly user: UserRow;
  readonly device: string;
  readonly peer: string;
  readonly issuer: string;
}

async function letIn(
  db: Database,
  { user, device, peer, issuer }: Guest,
): Promise<z.output<typeof signedInSchema>> {
  const scopes = tokenScopes.filter((scope) => scope !== "administer" || user.role === "administrator");
  const { token, expiresAt } = await insertToken(db, {
    ...{ userId: user.id, name: device, kind: "sign-in", scopes, validSeconds: SIGN_IN_SECONDS },
  });
  await db.updateTable("users").set({ last_sign_in_at: now() }).where("id", "=", user.id).execute();
  await recordAudit(db, { kind: "sign-in", reason: `${user.name} signed in at ${issuer}`, peer });
  return { user: user.name, role: user.role, token, expiresAt: expiresAt.toISOString() };
}

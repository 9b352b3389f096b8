import {
  FarpoolError,
  formatLoginLink,
  tokenScopes,
  type signedInSchema,
  type signInSchema,
} from "@farpool/contract";
import type * as z from "zod";
import { now, nowPlus, type Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import { insertToken } from "./api-tokens.ts";
import { countFailure, forgetFailures, requireFewFailures, type Limit } from "./attempts.ts";
import { recordAudit } from "./audit.ts";
import { placeFor, type DoorParts } from "./join-tokens.ts";
import { passwordMatches } from "./passwords.ts";
import { hashSecret, newSecret } from "./secrets.ts";
import { findUser, requireUser, type UserRow } from "./users.ts";

/** A week: who uses the pool daily signs in on Mondays. */
export const SIGN_IN_SECONDS = 7 * 86_400;
const CODE_MS = 10 * 60_000;
/** One person's typing errors, and one address's: an office shares one. */
const MOST_OF_A_USER = 5;
const MOST_OF_AN_ADDRESS = 30;

type Attempt = z.output<typeof signInSchema>;
type SignedIn = z.output<typeof signedInSchema>;

export async function signIn(db: Database, attempt: Attempt, { peer }: Principal): Promise<SignedIn> {
  const { code, user, password, device } = attempt;
  if (code === null && (user === null || password === null))
    throw new FarpoolError("FARPOOL_BAD_REQUEST", "signing in takes a code, or a user and a password");
  const limits: Limit[] = [
    { subject: `sign-in from ${peer}`, most: MOST_OF_AN_ADDRESS },
    ...(user === null
      ? []
      : [{ subject: `sign-in of ${user.toLowerCase()} from ${peer}`, most: MOST_OF_A_USER }]),
  ];
  await requireFewFailures(db, limits);
  const found = code === null ? await byPassword(db, user ?? "", password ?? "") : await byCode(db, code);
  if (found instanceof FarpoolError) {
    await countFailure(db, limits);
    const who = user === null ? "somebody with a code" : `'${user.replaceAll(/\p{Cc}/gu, "?")}'`;
    await recordAudit(db, { kind: "sign-in-refused", reason: `${who}: ${found.message}`, peer });
    throw found;
  }
  for (const { subject } of limits.slice(1)) await forgetFailures(db, subject);
  const scopes = tokenScopes.filter((scope) => scope !== "administer" || found.role === "administrator");
  const { token, expiresAt } = await insertToken(db, {
    ...{ userId: found.id, name: device, kind: "sign-in", scopes, validSeconds: SIGN_IN_SECONDS },
  });
  await db.updateTable("users").set({ last_sign_in_at: now() }).where("id", "=", found.id).execute();
  const how = code === null ? "a password" : "a one-time link";
  await recordAudit(db, { kind: "sign-in", reason: `${found.name} signed in with ${how}`, peer });
  return { user: found.name, role: found.role, token, expiresAt: expiresAt.toISOString() };
}

/** The same words for an unknown user, a wrong password and a disabled one. */
async function byPassword(db: Database, name: string, password: string): Promise<UserRow | FarpoolError> {
  const row = await findUser(db, name);
  const isRight = await passwordMatches(password, row?.password_hash ?? null);
  if (row !== undefined && isRight && row.disabled_at === null) return row;
  return new FarpoolError(
    "FARPOOL_NOT_PERMITTED",
    "user and password do not fit together, or the user is disabled",
    {
      hint: "'farpool admin login-link USER' on the manager's machine makes a link that signs in",
    },
  );
}

async function byCode(db: Database, code: string): Promise<UserRow | FarpoolError> {
  // One statement: of two that use it at once one gets it.
  const used = await db
    .updateTable("sign_in_codes")
    .set({ used_at: now() })
    .where("secret_hash", "=", hashSecret(code))
    .where("used_at", "is", null)
    .where("expires_at", ">", now())
    .returning("user_id")
    .executeTakeFirst();
  if (used === undefined)
    return new FarpoolError("FARPOOL_NOT_PERMITTED", await whyNot(db, code), {
      hint: "'farpool admin login-link' makes another",
    });
  const row = await db
    .selectFrom("users")
    .selectAll()
    .where("id", "=", used.user_id)
    .executeTakeFirstOrThrow();
  if (row.disabled_at === null) return row;
  return new FarpoolError("FARPOOL_NOT_PERMITTED", `the user ${row.name} is disabled`);
}

async function whyNot(db: Database, code: string): Promise<string> {
  const row = await db
    .selectFrom("sign_in_codes")
    .select(["used_at", "expires_at"])
    .where("secret_hash", "=", hashSecret(code))
    .executeTakeFirst();
  if (row === undefined) return "the sign-in link is not known to this pool";
  if (row.used_at !== null) return `the sign-in link was used already, at ${row.used_at.toISOString()}`;
  return `the sign-in link expired at ${row.expires_at.toISOString()}: it is good for ${CODE_MS / 60_000} minutes`;
}

export async function createSignInCode(
  { db, door }: DoorParts,
  { userName, url }: { readonly userName: string; readonly url: string | null },
  by: Principal,
): Promise<{ readonly link: string; readonly expiresAt: string }> {
  const place = placeFor(door, url);
  const { id, name, disabled_at: disabledAt } = await requireUser(db, userName);
  if (disabledAt !== null)
    throw new FarpoolError("FARPOOL_CONFLICT", `the user ${name} is disabled`, {
      hint: "'farpool admin users enable' lets her in again",
    });
  const secret = newSecret();
  const row = await db
    .insertInto("sign_in_codes")
    .values({
      secret_hash: hashSecret(secret),
      user_id: id,
      created_by: by.description,
      expires_at: nowPlus(CODE_MS),
    })
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  await db.deleteFrom("sign_in_codes").where("expires_at", "<", nowPlus(-86_400_000)).execute();
  const reason = `${by.description} made a sign-in link for ${name}`;
  await recordAudit(db, { kind: "token-changed", reason, peer: by.peer });
  return {
    link: formatLoginLink({ ...place, authorityHash: door.authorityHash, secret }),
    expiresAt: row.expires_at.toISOString(),
  };
}

export async function signOut(db: Database, { user }: Principal): Promise<void> {
  if (user === null) return;
  await db.updateTable("api_tokens").set({ revoked_at: now() }).where("id", "=", user.tokenId).execute();
}

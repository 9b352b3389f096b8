import { randomUUID } from "node:crypto";
import { FarpoolError, tokenScopes, type ApiToken, type TokenScope } from "@farpool/contract";
import { sql } from "kysely";
import { now, nowPlus, type Database } from "../database/connect.ts";
import type { Principal, UserPrincipal } from "../http/principal.ts";
import { recordAudit } from "./audit.ts";
import { hashSecret, newSecret } from "./secrets.ts";
import { requireUser } from "./users.ts";

/** So that secrets are recognised where they do not belong: in logs, in repositories. */
const PREFIX = "farpool-";
/** A use is noted once in this time: each costs a write. */
const USE_NOTED_MS = 60_000;

interface NewToken {
  readonly userId: string;
  readonly name: string;
  readonly kind: ApiToken["kind"];
  readonly scopes: readonly TokenScope[];
  readonly validSeconds: number;
}

export async function insertToken(
  db: Database,
  { userId, name, kind, scopes, validSeconds }: NewToken,
): Promise<{ readonly id: string; readonly token: string; readonly expiresAt: Date }> {
  const token = `${PREFIX}${newSecret()}`;
  const row = await db
    .insertInto("api_tokens")
    .values({
      id: randomUUID(),
      secret_hash: hashSecret(token),
      user_id: userId,
      name,
      kind,
      scopes: JSON.stringify(tokenScopes.filter((scope) => scopes.includes(scope))),
      expires_at: nowPlus(validSeconds * 1_000),
    })
    .returning(["id", "expires_at"])
    .executeTakeFirstOrThrow();
  return { id: row.id, token, expiresAt: row.expires_at };
}

interface Wish {
  readonly user: string;
  readonly name: string;
  readonly scopes: readonly TokenScope[];
  readonly validSeconds: number;
}

/** For programs: it does what its scopes say, and nothing that its user may not. */
export async function createApiToken(
  db: Database,
  wish: Wish,
  by: Principal,
): Promise<ApiToken & { readonly token: string }> {
  const user = await requireUser(db, wish.user);
  if (wish.scopes.includes("administer") && user.role !== "administrator")
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the user ${user.name} is no administrator`, {
      hint: "a token may do no more than its user: leave out --scope administer",
    });
  const { id, token } = await insertToken(db, { ...wish, userId: user.id, kind: "api" });
  const reason = `${by.description} made the API token ${id} (${wish.name}) of ${user.name} for ${wish.scopes.join(", ")}`;
  await recordAudit(db, { kind: "token-changed", reason, peer: by.peer });
  return { ...(await requireToken(db, id)), token };
}

export async function revokeApiToken(db: Database, id: string, by: Principal): Promise<ApiToken> {
  await db
    .updateTable("api_tokens")
    .set((eb) => ({ revoked_at: eb.fn.coalesce("revoked_at", now()) }))
    .where("id", "=", id)
    .execute();
  const token = await requireToken(db, id);
  const reason = `${by.description} revoked the token ${id} of ${token.user}`;
  await recordAudit(db, { kind: "token-changed", reason, peer: by.peer });
  return token;
}

async function requireToken(db: Database, id: string): Promise<ApiToken> {
  const [token] = await listApiTokens(db, id);
  if (token !== undefined) return token;
  throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no token ${id}`, {
    hint: "'farpool admin tokens list' lists them",
  });
}

export async function listApiTokens(db: Database, only?: string): Promise<ApiToken[]> {
  const all = db
    .selectFrom("api_tokens")
    .innerJoin("users", "users.id", "api_tokens.user_id")
    .selectAll("api_tokens")
    .select("users.name as user")
    .orderBy("api_tokens.created_at", "desc");
  const rows = await (only === undefined ? all : all.where("api_tokens.id", "=", only)).execute();
  return rows.map((row) => ({
    id: row.id,
    user: row.user,
    name: row.name,
    kind: row.kind,
    scopes: row.scopes,
    createdAt: row.created_at.toISOString(),
    expiresAt: row.expires_at.toISOString(),
    lastUsedAt: row.last_used_at?.toISOString() ?? null,
    revokedAt: row.revoked_at?.toISOString() ?? null,
  }));
}

/** Whose token this is; throws when it opens nothing. */
export async function recogniseUser(db: Database, token: string): Promise<UserPrincipal> {
  const row = await db
    .selectFrom("api_tokens")
    .innerJoin("users", "users.id", "api_tokens.user_id")
    .select(["api_tokens.id", "scopes", "user_id", "users.name", "role", "disabled_at", "revoked_at"])
    .select(["api_tokens.expires_at"])
    .select(sql<boolean>`expires_at < clock_timestamp()`.as("is_over"))
    .select(
      sql<boolean>`last_used_at is null or last_used_at < ${nowPlus(-USE_NOTED_MS)}`.as("is_use_to_note"),
    )
    .where("secret_hash", "=", hashSecret(token))
    .executeTakeFirst();
  const why =
    row === undefined
      ? "is not known to this pool"
      : row.revoked_at !== null
        ? `was ended at ${row.revoked_at.toISOString()}`
        : row.disabled_at !== null
          ? `belongs to ${row.name}, who is disabled`
          : row.is_over
            ? `expired at ${row.expires_at.toISOString()}`
            : undefined;
  if (row === undefined || why !== undefined)
    throw new FarpoolError("FARPOOL_UNAUTHENTICATED", `the token that was sent ${why ?? ""}`, {
      hint: "'farpool login' signs in again; 'farpool logout' forgets the token",
    });
  if (row.is_use_to_note)
    await db.updateTable("api_tokens").set({ last_used_at: now() }).where("id", "=", row.id).execute();
  return { id: row.user_id, name: row.name, role: row.role, tokenId: row.id, scopes: row.scopes };
}

import { randomUUID } from "node:crypto";
import { FarpoolError, type Mapping, type Thumbprint, type User, type UserRole } from "@farpool/contract";
import { sql, type Selectable } from "kysely";
import { now, type Database, type Tx } from "../database/connect.ts";
import type { UsersTable } from "../database/schema-identity.ts";
import type { Principal } from "../http/principal.ts";
import { recordAudit } from "./audit.ts";
import { hashPassword } from "./passwords.ts";

/** Whom the first sign-in link is for; it has no password until somebody gives it one. */
export const FIRST_ADMINISTRATOR = "admin";

export type UserRow = Selectable<UsersTable>;

export async function ensureFirstAdministrator(db: Database): Promise<void> {
  await db
    .insertInto("users")
    .columns(["id", "name", "role"])
    .expression(
      sql`select ${randomUUID()}::uuid, ${FIRST_ADMINISTRATOR}, 'administrator' where not exists (select 1 from users)`,
    )
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

export async function findUser(db: Database | Tx, name: string): Promise<UserRow | undefined> {
  return db
    .selectFrom("users")
    .selectAll()
    .where(sql<string>`lower(name)`, "=", name.toLowerCase())
    .executeTakeFirst();
}

export async function requireUser(db: Database | Tx, name: string): Promise<UserRow> {
  const row = await findUser(db, name);
  if (row !== undefined) return row;
  throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no user '${name}'`, {
    hint: "'farpool users' lists them, 'farpool admin users add' makes one",
  });
}

interface NewUser {
  readonly name: string;
  readonly role: UserRole;
  readonly password: string | null;
}

export async function createUser(
  db: Database,
  { name, role, password }: NewUser,
  by: Principal,
): Promise<User> {
  const hash = password === null ? null : await hashPassword(password);
  const row = await db
    .insertInto("users")
    .values({ id: randomUUID(), name, role, password_hash: hash })
    .onConflict((conflict) => conflict.doNothing())
    .returningAll()
    .executeTakeFirst();
  if (row === undefined)
    throw new FarpoolError("FARPOOL_CONFLICT", `there is a user '${name}' already`, {
      hint: "'farpool admin users passwd' changes the password",
    });
  await tell(db, by, `made the ${role} ${name}`);
  return present(row);
}

export async function listUsers(db: Database): Promise<User[]> {
  const rows = await db.selectFrom("users").selectAll().orderBy("name").execute();
  return rows.map(present);
}

/** Whoever has signed in as this user is signed out: a password is changed because somebody else knew it. */
export async function setPassword(
  db: Database,
  { name, password }: { readonly name: string; readonly password: string },
  by: Principal,
): Promise<User> {
  const { id } = await requireUser(db, name);
  const hash = await hashPassword(password);
  const row = await db
    .updateTable("users")
    .set({ password_hash: hash })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
  await signOutEverywhere(db, id, ["sign-in"]);
  await tell(db, by, `set the password of ${row.name}`);
  return present(row);
}

export async function disableUser(
  db: Database,
  { name, isDisabled }: { readonly name: string; readonly isDisabled: boolean },
  by: Principal,
): Promise<User> {
  const { id } = await requireUser(db, name);
  const row = await db
    .updateTable("users")
    .set({ disabled_at: isDisabled ? now() : null })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
  if (isDisabled) await signOutEverywhere(db, id, ["sign-in", "api"]);
  await tell(db, by, `${isDisabled ? "disabled" : "enabled"} the user ${row.name}`);
  return present(row);
}

async function signOutEverywhere(db: Database, id: string, kinds: Array<"sign-in" | "api">): Promise<void> {
  await db
    .updateTable("api_tokens")
    .set({ revoked_at: now() })
    .where("user_id", "=", id)
    .where("kind", "in", kinds)
    .where("revoked_at", "is", null)
    .execute();
  await db.updateTable("sign_in_codes").set({ used_at: now() }).where("user_id", "=", id).execute();
}

interface Declaration {
  readonly client: Thumbprint;
  readonly account: string;
  /** Null: no longer. */
  readonly user: string | null;
}

/** Declares an account of a client to be a user of the pool. */
export async function mapAccount(
  db: Database,
  { client, account, user }: Declaration,
  by: Principal,
): Promise<Mapping[]> {
  const known = await db
    .selectFrom("clients")
    .select("name")
    .where("thumbprint", "=", client)
    .executeTakeFirst();
  if (known === undefined)
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client with the key ${client}`, {
      hint: "'farpool clients' lists them",
    });
  const place = `${account}@${known.name}`;
  if (user === null) {
    await db
      .deleteFrom("account_mappings")
      .where("client_key", "=", client)
      .where("account", "=", account)
      .execute();
    await tell(db, by, `ended the mapping of ${place}`);
  } else {
    const { id, name } = await requireUser(db, user);
    await db
      .insertInto("account_mappings")
      .values({ client_key: client, account, user_id: id })
      .onConflict((conflict) => conflict.columns(["client_key", "account"]).doUpdateSet({ user_id: id }))
      .execute();
    await tell(db, by, `mapped ${place} to the user ${name}`);
  }
  return listMappings(db);
}

export async function listMappings(db: Database): Promise<Mapping[]> {
  const rows = await db
    .selectFrom("account_mappings")
    .innerJoin("users", "users.id", "account_mappings.user_id")
    .innerJoin("clients", "clients.thumbprint", "account_mappings.client_key")
    .select(["client_key", "clients.name as clientName", "account_mappings.account", "users.name as user"])
    .orderBy("clients.name")
    .orderBy("account_mappings.account")
    .execute();
  return rows.map(({ client_key: client, clientName, account, user }) => ({
    client,
    clientName,
    account,
    user,
  }));
}

async function tell(db: Database, by: Principal, deed: string): Promise<void> {
  await recordAudit(db, { kind: "user-changed", reason: `${by.description} ${deed}`, peer: by.peer });
}

function present(row: UserRow): User {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    hasPassword: row.password_hash !== null,
    createdAt: row.created_at.toISOString(),
    lastSignInAt: row.last_sign_in_at?.toISOString() ?? null,
    disabledAt: row.disabled_at?.toISOString() ?? null,
  };
}

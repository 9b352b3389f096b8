import { FarpoolError, type PolicyUserSource, type Thumbprint, type WhoAmI } from "@farpool/contract";
import { sql, type RawBuilder } from "kysely";
import type { Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";

/** Who a session is for: reported by the client, mapped by an administrator, or signed in; the last that applies wins. */
export interface Person {
  /** What it is shown and billed as. */
  readonly name: string;
  readonly source: PolicyUserSource;
  /** Null: nobody whom the pool knows. */
  readonly userId: string | null;
}

/** A user to whom an administrator has mapped an account of a client. */
export interface MappedUser {
  readonly id: string;
  readonly name: string;
  readonly isDisabled: boolean;
}

export function personOf(account: string, mapped: MappedUser | null, { user }: Principal): Person {
  if (user !== null) return { name: user.name, source: "signed-in", userId: user.id };
  if (mapped === null) return { name: account, source: "reported", userId: null };
  if (mapped.isDisabled)
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the user ${mapped.name} is disabled`, {
      hint: `the account ${account} of this client is mapped to that user; an administrator may change it`,
    });
  return { name: mapped.name, source: "mapped", userId: mapped.id };
}

/** The user as a column of another statement: a grant is to take few of them. */
export function mappedUser(clientKey: Thumbprint, account: string): RawBuilder<MappedUser | null> {
  return sql<MappedUser | null>`(
    select json_build_object('id', users.id, 'name', users.name, 'isDisabled', users.disabled_at is not null)
    from account_mappings join users on users.id = account_mappings.user_id
    where client_key = ${clientKey} and account = ${account})`;
}

export async function findMapped(
  db: Database,
  clientKey: Thumbprint,
  account: string,
): Promise<MappedUser | null> {
  const found = await sql<{
    mapped: MappedUser | null;
  }>`select ${mappedUser(clientKey, account)} as mapped`.execute(db);
  return found.rows[0]?.mapped ?? null;
}

export async function whoAmI(
  db: Database,
  account: string | undefined,
  principal: Principal,
): Promise<WhoAmI> {
  const { machine, user, isAdministrator, description } = principal;
  const clientKey = machine?.role === "client" ? machine.thumbprint : null;
  const mapped =
    clientKey === null || account === undefined ? null : await findMapped(db, clientKey, account);
  const reported = account === undefined ? null : `${account}@${machine?.name ?? "this machine"}`;
  const source =
    user !== null ? "signed-in" : mapped !== null ? "mapped" : reported === null ? null : "reported";
  return {
    machine:
      machine === null
        ? null
        : {
            id: machine.id,
            role: machine.role,
            name: machine.name,
            certificateExpiresAt: machine.certificateExpiresAt.toISOString(),
          },
    reported,
    mapped: mapped?.name ?? null,
    signedIn: user?.name ?? null,
    source,
    isAdministrator,
    because: description,
  };
}

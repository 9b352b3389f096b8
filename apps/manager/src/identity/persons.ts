import { FarpoolError, type PolicyUserSource, type Thumbprint, type WhoAmI } from "@farpool/contract";
import type { Database, Tx } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";

/** Who a session is for: reported by the client, mapped by an administrator, or signed in; the last that applies wins. */
export interface Person {
  /** What it is shown and billed as. */
  readonly name: string;
  readonly source: PolicyUserSource;
  /** Null: nobody whom the pool knows. */
  readonly userId: string | null;
}

export async function personOf(
  db: Database | Tx,
  { clientKey, account }: { readonly clientKey: Thumbprint | null; readonly account: string },
  { user }: Principal,
): Promise<Person> {
  if (user !== null) return { name: user.name, source: "signed-in", userId: user.id };
  const mapped = clientKey === null ? undefined : await findMapped(db, clientKey, account);
  if (mapped === undefined) return { name: account, source: "reported", userId: null };
  if (mapped.disabled_at !== null)
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `the user ${mapped.name} is disabled`, {
      hint: `the account ${account} of this client is mapped to that user; an administrator may change it`,
    });
  return { name: mapped.name, source: "mapped", userId: mapped.id };
}

function findMapped(db: Database | Tx, clientKey: Thumbprint, account: string) {
  return db
    .selectFrom("account_mappings")
    .innerJoin("users", "users.id", "account_mappings.user_id")
    .select(["users.id", "users.name", "users.disabled_at"])
    .where("client_key", "=", clientKey)
    .where("account", "=", account)
    .executeTakeFirst();
}

export async function whoAmI(
  db: Database,
  account: string | undefined,
  principal: Principal,
): Promise<WhoAmI> {
  const { machine, user, isAdministrator, description } = principal;
  const clientKey = machine?.role === "client" ? machine.thumbprint : null;
  const mapped =
    clientKey === null || account === undefined ? undefined : await findMapped(db, clientKey, account);
  const reported = account === undefined ? null : `${account}@${machine?.name ?? "this machine"}`;
  const source =
    user !== null ? "signed-in" : mapped !== undefined ? "mapped" : reported === null ? null : "reported";
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

import { FarpoolError, type Client, type Mapping, type User } from "@farpool/contract";
import { print, printJson, say, table } from "../core/output.ts";
import { withPool } from "../core/pool-client.ts";
import { readNewPassword } from "./password.ts";

export async function users(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listUsers", {}));
  if (isJson) printJson(answer);
  else print(userTable(answer.users));
  return 0;
}

function userTable(all: readonly User[]): string {
  const rows = all.map((user) => [
    user.name,
    user.role,
    user.hasPassword ? "yes" : "no",
    user.lastSignInAt ?? "never",
    user.disabledAt === null ? "-" : user.disabledAt,
  ]);
  return table(["USER", "ROLE", "PASSWORD", "SIGNED IN", "DISABLED"], rows);
}

export interface AddOptions {
  readonly isAdministrator: boolean;
  readonly isPassword: boolean;
  readonly isPasswordFromStdin: boolean;
  readonly isJson: boolean;
}

export async function add(options: AddOptions, name: string): Promise<number> {
  const wantsPassword = options.isPassword || options.isPasswordFromStdin;
  const password = wantsPassword ? await readNewPassword(name, options.isPasswordFromStdin) : null;
  const role = options.isAdministrator ? "administrator" : "user";
  const user = await withPool((client) => client.call("createUser", { body: { name, role, password } }));
  if (options.isJson) printJson(user);
  else if (user.hasPassword) say(`${user.name} is a ${user.role} now`);
  else say(`${user.name} is a ${user.role} now; 'farpool admin login-link ${user.name}' lets her sign in`);
  return 0;
}

export async function passwd(isFromStdin: boolean, userName: string): Promise<number> {
  const password = await readNewPassword(userName, isFromStdin);
  const user = await withPool((client) =>
    client.call("setPassword", { params: { userName }, body: { password } }),
  );
  say(`${user.name} has a new password, and is signed out everywhere`);
  return 0;
}

export async function setDisabled(isDisabled: boolean, userName: string): Promise<number> {
  const user = await withPool((client) =>
    client.call("disableUser", { params: { userName }, body: { isDisabled } }),
  );
  say(
    isDisabled
      ? `${user.name} is disabled: no sign-in, no token of hers opens anything`
      : `${user.name} may sign in again`,
  );
  return 0;
}

/** `ACCOUNT@CLIENT`: a client has no @ in its name's beginning, an account may have one. */
export async function map(user: string | null, place: string): Promise<number> {
  const at = place.lastIndexOf("@");
  if (at <= 0 || at === place.length - 1)
    throw new FarpoolError("FARPOOL_USAGE", `'${place}' names no account of a client`, {
      hint: "it looks like dev1@ws-17; 'farpool clients' lists the clients",
    });
  const account = place.slice(0, at);
  await withPool(async (client) => {
    const { clients } = await client.call("listClients", {});
    const { thumbprint } = findClient(clients, place.slice(at + 1));
    await client.call("mapAccount", { body: { client: thumbprint, account, user } });
  });
  say(user === null ? `${place} is reported as it is again` : `${place} is the user ${user} from now on`);
  return 0;
}

function findClient(all: readonly Client[], named: string): Client {
  const living = all.filter(({ revokedAt }) => revokedAt === null);
  const byKey = living.find(({ thumbprint }) => thumbprint === named);
  const [first, ...others] = living.filter(({ name }) => name === named);
  if (byKey !== undefined) return byKey;
  if (first === undefined)
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client '${named}'`, {
      hint: "'farpool clients' lists them, by name and key",
    });
  if (others.length === 0) return first;
  throw new FarpoolError("FARPOOL_USAGE", `${others.length + 1} clients are called '${named}'`, {
    hint: "name the one you mean by its key",
  });
}

export async function mappings(isJson: boolean): Promise<number> {
  const answer = await withPool((client) => client.call("listMappings", {}));
  if (isJson) printJson(answer);
  else print(answer.mappings.length === 0 ? "no accounts are mapped" : mappingTable(answer.mappings));
  return 0;
}

function mappingTable(all: readonly Mapping[]): string {
  const rows = all.map(({ account, clientName, user, client }) => [`${account}@${clientName}`, user, client]);
  return table(["ACCOUNT", "USER", "CLIENT'S KEY"], rows);
}

export async function loginLink(
  { isJson, url }: { readonly isJson: boolean; readonly url: string | undefined },
  userName: string,
): Promise<number> {
  const answer = await withPool((client) =>
    client.call("createSignInCode", { params: { userName }, body: { url: url ?? null } }),
  );
  if (isJson) printJson(answer);
  else {
    print(answer.link);
    say(`signs ${userName} in once, until ${answer.expiresAt}: farpool login 'LINK'`);
  }
  return 0;
}

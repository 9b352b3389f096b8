import { rmSync } from "node:fs";
import { hostname, userInfo } from "node:os";
import {
  authorityHashes,
  createClient,
  fetchAuthority,
  formatAddress,
  writePrivate,
  type ManagerAddress,
  type ManagerClient,
  type SignInFile,
} from "@farpool/client-api";
import { FarpoolError, parseLoginLink, type Invitation, type RouteResponse } from "@farpool/contract";
import { createFolders, poolFolders, signInFile } from "@farpool/layout";
import { printJson, say, print } from "../core/output.ts";
import { currentSignIn, openClientMembership, reachPool } from "../core/pool-client.ts";
import { signInAtProvider } from "./oidc.ts";
import { readPassword } from "./password.ts";

export interface LoginOptions {
  readonly user: string | undefined;
  readonly isPasswordFromStdin: boolean;
  /** At the pool's identity provider. */
  readonly isOidc: boolean;
  readonly isJson: boolean;
}

interface Target {
  readonly address: ManagerAddress;
  /** Kept with the token, where this machine does not know the pool by other means. */
  readonly manager: SignInFile["manager"];
}

/** Signs in with a one-time link, or with a user and a password. */
export async function login(options: LoginOptions, link: string | undefined): Promise<number> {
  const folders = poolFolders();
  const invitation = link === undefined ? undefined : requireLink(link);
  if (invitation !== undefined && options.user !== undefined)
    throw new FarpoolError("FARPOOL_USAGE", "a link is a user's already: --user belongs to a password", {
      hint: null,
    });
  if (options.isOidc && (invitation !== undefined || options.user !== undefined))
    throw new FarpoolError(
      "FARPOOL_USAGE",
      "--oidc is a way of its own: it takes neither a link nor --user",
      {
        hint: "the identity provider says who it is",
      },
    );
  const target = invitation === undefined ? await knownPool() : await linkedPool(invitation);
  const signIn = await wayOf(options, invitation);
  const client = createClient(target.address);
  try {
    const { token, role, ...signedIn } = await signIn(client);
    createFolders(folders);
    writePrivate(signInFile(folders), { ...signedIn, token, manager: target.manager });
    if (options.isJson) printJson({ ...signedIn, role });
    else say(`signed in as ${signedIn.user} (${role}) until ${signedIn.expiresAt}`);
    return 0;
  } finally {
    client.close();
  }
}

type SignIn = (client: ManagerClient) => Promise<RouteResponse<"signIn">>;

async function wayOf(options: LoginOptions, invitation: Invitation | undefined): Promise<SignIn> {
  const device = hostname();
  if (options.isOidc) return (client) => signInAtProvider(client, device);
  const user = options.user ?? accountName();
  const credentials =
    invitation === undefined
      ? { user, password: await readPassword(`password of ${user}: `, options.isPasswordFromStdin) }
      : { code: invitation.secret };
  return (client) => client.call("signIn", { body: { ...credentials, device } });
}

function requireLink(text: string): Invitation {
  const link = parseLoginLink(text);
  if (link !== undefined) return link;
  throw new FarpoolError("FARPOOL_USAGE", "this is not a sign-in link, or not all of one", {
    hint: "it looks like 'https://HOST:7443/login#…'; quote it; 'farpool admin login-link' on the manager's machine makes one",
  });
}

async function knownPool(): Promise<Target> {
  const { address } = await reachPool();
  const anonymous = { ...address, token: null };
  if (anonymous.kind === "unix" || anonymous.credentials !== undefined)
    return { address: anonymous, manager: null };
  const { host, port, authority } = anonymous;
  return { address: anonymous, manager: { host, port, authority } };
}

/** A machine that has joined the link's pool goes on to use its own way there. */
async function linkedPool(invitation: Invitation): Promise<Target> {
  const membership = openClientMembership(poolFolders());
  if (membership !== undefined) {
    if (authorityHashes(membership.membership.authority).includes(invitation.authorityHash)) {
      await membership.renewIfDue();
      return { address: membership.address(), manager: null };
    }
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `the link is of another pool than the one at ${formatAddress(membership.membership)}, which this machine has joined`,
      { hint: "FARPOOL_STATE names another folder for a second pool; 'farpool leave' ends the first" },
    );
  }
  const { host, port } = invitation;
  const authority = await fetchAuthority(invitation);
  return {
    address: { kind: "https", host, port, authority, token: null },
    manager: { host, port, authority },
  };
}

export async function logout(isForget: boolean): Promise<number> {
  const folders = poolFolders();
  const signedIn = isForget ? undefined : currentSignIn(folders);
  if (signedIn !== undefined) {
    const { address } = await reachPool();
    const client = createClient({ ...address, token: signedIn.token });
    try {
      await client.call("signOut", {});
    } catch (error) {
      const isOver = error instanceof FarpoolError && error.code === "FARPOOL_UNAUTHENTICATED";
      if (!isOver) throw withForget(error);
    } finally {
      client.close();
    }
  }
  rmSync(signInFile(folders), { force: true });
  say(signedIn === undefined ? "nobody is signed in here" : `${signedIn.user} is signed out`);
  return 0;
}

function withForget(error: unknown): unknown {
  if (!(error instanceof FarpoolError)) return error;
  return new FarpoolError(error.code, error.message, {
    hint: "'farpool logout --forget' removes the token from this machine only; it ends by itself within a week",
    cause: error,
  });
}

export async function whoami(isJson: boolean): Promise<number> {
  const { address } = await reachPool();
  const client = createClient(address);
  try {
    const who = await client.call("whoAmI", { query: { account: accountName() } });
    if (isJson) {
      printJson({ ...who, manager: formatAddress(address) });
      return 0;
    }
    const mark = (source: typeof who.source): string => (who.source === source ? "   ← this one counts" : "");
    const lines = [
      `pool       ${formatAddress(address)}`,
      `machine    ${who.machine === null ? "not joined" : `${who.machine.name}, a ${who.machine.role}, certificate until ${who.machine.certificateExpiresAt}`}`,
      `reported   ${who.reported ?? "-"}${mark("reported")}`,
      `mapped     ${who.mapped ?? "-"}${mark("mapped")}`,
      `signed in  ${who.signedIn ?? "-"}${mark("signed-in")}`,
      `may        ${who.isAdministrator ? "do everything" : "have sessions, and see the pool"} (as ${who.because})`,
    ];
    print(lines.join("\n"));
    return 0;
  } finally {
    client.close();
  }
}

function accountName(): string {
  try {
    return userInfo().username;
  } catch {
    // An account without an entry in the user database: containers have them.
    return String(process.getuid?.() ?? "unknown");
  }
}

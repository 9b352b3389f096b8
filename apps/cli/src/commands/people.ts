import { defineCommand, flag, value } from "../core/command.ts";
import { expirySeconds, wholeNumber } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";
import { exportPersonCommand, pseudonymiseCommand } from "./privacy.ts";

const passwordStdin = flag("--password-stdin", "read the password from stdin");
const urlOption = value("--url <url>", "an address of the manager other than where it listens", String);

export const loginCommand = defineCommand({
  name: "login",
  summary: "sign in: sessions are yours, whatever this machine calls you",
  arguments: "[link]",
  options: {
    user: value(
      "--user <name>",
      "sign in with a password, as this user (default: your account's name)",
      String,
    ),
    isPasswordFromStdin: passwordStdin,
    isOidc: flag("--oidc", "at the pool's identity provider, with a code for any browser"),
    ...jsonOption,
  },
  details: [
    "With a link from 'farpool up' or 'farpool admin login-link', which works once; with a password; or at the identity provider.",
    "The link needs quotes: farpool login 'https://HOST:7443/login#…'",
  ].join("\n"),
  run: async ({ options, arguments: [link] }) => (await import("../people/login.ts")).login(options, link),
});

export const logoutCommand = defineCommand({
  name: "logout",
  summary: "sign out",
  options: { isForget: flag("--forget", "remove the token from this machine, without telling the manager") },
  run: async ({ options }) => (await import("../people/login.ts")).logout(options.isForget),
});

export const whoamiCommand = defineCommand({
  name: "whoami",
  summary: "who the pool thinks you are, and why",
  options: jsonOption,
  run: async ({ options }) => (await import("../people/login.ts")).whoami(options.isJson),
});

export const usersCommand = defineCommand({
  name: "users",
  summary: "the pool's users",
  options: jsonOption,
  run: async ({ options }) => (await import("../people/users.ts")).users(options.isJson),
});

export const adminUsersCommand = defineCommand({
  name: "users",
  summary: "add, disable and map users",
  options: jsonOption,
  run: async ({ options }) => (await import("../people/users.ts")).users(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      summary: "all users, the disabled ones too",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/users.ts")).users(options.isJson),
    }),
    defineCommand({
      name: "add",
      summary: "a new user",
      arguments: "<user>",
      options: {
        isAdministrator: flag("--administrator", "who may do everything"),
        isPassword: flag("--password", "ask for a password"),
        isPasswordFromStdin: passwordStdin,
        ...jsonOption,
      },
      run: async ({ options, arguments: [user = ""] }) =>
        (await import("../people/users.ts")).add(options, user),
    }),
    defineCommand({
      name: "passwd",
      summary: "set a user's password; she is signed out everywhere",
      arguments: "<user>",
      options: { isPasswordFromStdin: passwordStdin },
      run: async ({ options, arguments: [user = ""] }) =>
        (await import("../people/users.ts")).passwd(options.isPasswordFromStdin, user),
    }),
    defineCommand({
      name: "disable",
      summary: "let a user sign in no longer",
      arguments: "<user>",
      run: async ({ arguments: [user = ""] }) => (await import("../people/users.ts")).setDisabled(true, user),
    }),
    defineCommand({
      name: "enable",
      summary: "let a user sign in again",
      arguments: "<user>",
      run: async ({ arguments: [user = ""] }) =>
        (await import("../people/users.ts")).setDisabled(false, user),
    }),
    defineCommand({
      name: "map",
      summary: "declare an account of a client to be a user: map alice dev1@ws-17",
      arguments: "<user> <account@client>",
      run: async ({ arguments: [user = "", place = ""] }) =>
        (await import("../people/users.ts")).map(user, place),
    }),
    defineCommand({
      name: "unmap",
      summary: "an account of a client is nobody's any more",
      arguments: "<account@client>",
      run: async ({ arguments: [place = ""] }) => (await import("../people/users.ts")).map(null, place),
    }),
    defineCommand({
      name: "mappings",
      summary: "accounts of clients that are users",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/users.ts")).mappings(options.isJson),
    }),
    exportPersonCommand,
    pseudonymiseCommand,
  ],
});

export const adminTokensCommand = defineCommand({
  name: "tokens",
  summary: "strings by which machines join, and tokens for programs",
  options: jsonOption,
  run: async ({ options }) => (await import("../people/tokens.ts")).list(options.isJson),
  commands: [
    defineCommand({
      name: "create",
      summary: "make one; its secret is shown once",
      options: {
        isServer: flag("--server", "for a server to join"),
        isClient: flag("--client", "for a client to join"),
        api: value("--api <user>", "for programs that call the API as this user", String),
        scope: value("--scope <scopes>", "of --api: read, sessions, administer (default: read)", (text) =>
          text.split(","),
        ),
        name: value("--name <name>", "of --api: what it is for", String),
        uses: value(
          "--uses <count>",
          "how many machines may join with it (default: 1)",
          wholeNumber("--uses", 1, 100_000),
        ),
        expires: value(
          "--expires <time>",
          "until when it is good (default: 1h; 90d for --api)",
          expirySeconds,
        ),
        url: urlOption,
        ...jsonOption,
      },
      run: async ({ options }) => {
        const tokens = await import("../people/tokens.ts");
        const scope = options.scope === undefined ? undefined : tokens.parseScopes(options.scope.join(","));
        return tokens.create({ ...options, scope });
      },
    }),
    defineCommand({
      name: "list",
      summary: "all tokens, without their secrets",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/tokens.ts")).list(options.isJson),
    }),
    defineCommand({
      name: "revoke",
      summary: "nobody gets in with it any more; machines that have joined stay",
      arguments: "<token>",
      options: jsonOption,
      run: async ({ options, arguments: [token = ""] }) =>
        (await import("../people/tokens.ts")).revoke(options.isJson, token),
    }),
  ],
});

export const loginLinkCommand = defineCommand({
  name: "login-link",
  summary: "a link that signs a user in once, within ten minutes",
  arguments: "[user]",
  options: { ...jsonOption, url: urlOption },
  run: async ({ options, arguments: [user = "admin"] }) =>
    (await import("../people/users.ts")).loginLink(options, user),
});

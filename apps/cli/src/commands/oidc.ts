import { defineCommand, flag, value } from "../core/command.ts";
import { jsonOption } from "./pool.ts";

export const oidcCommand = defineCommand({
  name: "oidc",
  summary: "the identity provider (OpenID Connect) at which people may sign in",
  options: jsonOption,
  run: async ({ options }) => (await import("../people/oidc.ts")).showOidc(options.isJson),
  commands: [
    defineCommand({
      name: "set",
      summary: "let people sign in at this provider: farpool login --oidc",
      arguments: "<issuer>",
      options: {
        ...jsonOption,
        clientId: value("--client-id <id>", "what the provider calls this pool", String),
        isSecretFromStdin: flag("--client-secret-stdin", "read the client's secret from stdin"),
        claim: value("--claim <name>", "which claim names the user (default: preferred_username)", String),
        emailDomain: value("--email-domain <domain>", "with --claim email: whose addresses count", String),
        isCreating: flag("--create-users", "add whom the pool does not know as a user"),
      },
      details: [
        "The provider must offer device authorization (RFC 8628) to this client. With --claim email the user is called by what",
        "is before the @, if the provider has verified the address and it is of --email-domain. The manager asks the provider; no",
        "other machine needs to. Whoever the provider lets in under a user's name is that user, administrators included.",
      ].join("\n"),
      run: async ({ options, arguments: [issuer = ""] }) =>
        (await import("../people/oidc.ts")).setOidc(options, issuer),
    }),
    defineCommand({
      name: "remove",
      summary: "nobody signs in at a provider any more",
      options: jsonOption,
      run: async ({ options }) => (await import("../people/oidc.ts")).removeOidc(options.isJson),
    }),
  ],
});

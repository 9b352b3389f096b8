import { defineCommand, value } from "../core/command.ts";
import { wholeNumber } from "../core/parse-values.ts";
import { setSpecification, showSpecification } from "./client-specification.ts";
import { groupsCommand, policiesCommand } from "./policies.ts";
import { adminUsageCommand, budgetsCommand, pricesCommand } from "./admin-billing.ts";
import { serversCommand } from "./admin-servers.ts";
import { authorityCommand } from "./authority.ts";
import { adminTokensCommand, adminUsersCommand, loginLinkCommand } from "./people.ts";
import { oidcCommand } from "./oidc.ts";
import { jsonOption } from "./pool.ts";
import { privacyCommand } from "./privacy.ts";

const listClients = defineCommand({
  name: "list",
  summary: "clients by their keys, the revoked ones too",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/admin.ts")).clients(options.isJson),
});

const revokeClient = defineCommand({
  name: "revoke",
  summary: "end a client's sessions and let it have no new ones",
  arguments: "<client>",
  candidates: "clients",
  options: {
    ...jsonOption,
    reason: value("--reason <text>", "why, for the client, the audit and those who come later", String),
  },
  details: [
    "A client is named by its key's thumbprint, or by its name when no other has the same.",
    "A thumbprint that begins with - goes after --: farpool admin clients revoke -- -AbC…",
  ].join("\n"),
  run: async ({ options, arguments: [client = ""] }) =>
    (await import("../pool/admin.ts")).revoke(options, client),
});

export const adminCommand = defineCommand({
  name: "admin",
  summary: "who may use the pool, and what was done and refused",
  commands: [
    serversCommand,
    pricesCommand,
    budgetsCommand,
    adminUsageCommand,
    defineCommand({
      name: "clients",
      summary: "list and revoke clients",
      options: jsonOption,
      run: async ({ options }) => (await import("../pool/admin.ts")).clients(options.isJson),
      commands: [listClients, revokeClient, showSpecification, setSpecification],
    }),
    policiesCommand,
    groupsCommand,
    adminTokensCommand,
    adminUsersCommand,
    loginLinkCommand,
    authorityCommand,
    privacyCommand,
    oidcCommand,
    defineCommand({
      name: "audit",
      summary: "revocations, refused connections, starts and ends of sessions",
      options: {
        ...jsonOption,
        last: value("--last <count>", "how many (default: 100)", wholeNumber("--last", 1, 10_000)),
      },
      run: async ({ options }) =>
        (await import("../pool/admin.ts")).audit(options.isJson, options.last ?? 100),
    }),
  ],
});

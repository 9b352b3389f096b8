import { completed, defineCommand, value } from "../core/command.ts";
import { oneOf } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

export const exportPersonCommand = defineCommand({
  name: "export",
  summary: "all that the pool has of a person, as JSON",
  arguments: "<person>",
  options: {
    output: completed(value("-o, --output <file>", "where to write it (default: stdout)", String), "file"),
  },
  details:
    "A person is a user of the pool, or an account as usage reports name it: dev1@ws-17. Secrets are not in it.",
  run: async ({ options, arguments: [name = ""] }) =>
    (await import("../people/privacy.ts")).exportPerson(options.output, name),
});

export const pseudonymiseCommand = defineCommand({
  name: "pseudonymise",
  summary: "take a person's name and account from all records; their sums stay",
  arguments: "<person>",
  options: jsonOption,
  details: [
    "Sessions, usage records and audit lines get a name that nothing leads back from; her account is closed for good, her",
    "policies, budgets, groups and mappings go. There is no way back. Her sessions must have ended.",
  ].join("\n"),
  run: async ({ options, arguments: [name = ""] }) =>
    (await import("../people/privacy.ts")).pseudonymise(options.isJson, name),
});

const switches = ["on", "off"] as const;

export const privacyCommand = defineCommand({
  name: "privacy",
  summary: "whether usage reports name programs and accounts",
  options: {
    ...jsonOption,
    programs: value("--programs <on|off>", "names of programs", oneOf("--programs", switches)),
    accounts: value(
      "--accounts <on|off>",
      "accounts that clients report; users of the pool are named in any case",
      oneOf("--accounts", switches),
    ),
  },
  details:
    "Command lines are never reported. What is off holds for records of the past, too, when they are shown.",
  run: async ({ options }) => (await import("../people/privacy.ts")).privacy(options),
});

import { defineCommand, flag, value, values } from "../core/command.ts";
import {
  policyFieldName,
  policyLifetime,
  policyMemory,
  policyNumber,
  serverRequirement,
  yesOrNo,
} from "../core/parse-policies.ts";
import { jsonOption } from "./pool.ts";

/** Whom a policy is for. */
const scopeOptions = {
  user: value("--user <user>", "a user, as 'farpool sessions' shows it: dev1@ws-17", String),
  group: value("--group <group>", "a group of users", String),
  client: value("--client <client>", "a client, by its key or its name", String),
  project: value("--project <project>", "a project", String),
  isPool: flag("--pool", "everybody"),
} as const;

const listPolicies = async ({ options }: { readonly options: { readonly isJson: boolean } }) =>
  (await import("../pool/policies.ts")).list(options.isJson);

const setPolicy = defineCommand({
  name: "set",
  summary: "set fields of a policy; the others stay",
  options: {
    ...scopeOptions,
    ...jsonOption,
    gpus: value("--gpus <count>", "GPUs at once", policyNumber("--gpus", 0, 100_000)),
    memory: value("--memory <size>", "GPU memory at once (80GiB)", policyMemory),
    sessions: value("--sessions <count>", "sessions at once", policyNumber("--sessions", 0, 100_000)),
    priority: value(
      "--priority <number>",
      "the highest priority that may be asked for",
      policyNumber("--priority", 0, 100),
    ),
    idleTimeout: value(
      "--idle-timeout <duration>",
      "sessions end after so long without use",
      policyLifetime("--idle-timeout"),
    ),
    maxDuration: value(
      "--max-duration <duration>",
      "sessions end so long after their grant",
      policyLifetime("--max-duration"),
    ),
    wait: value("--wait <duration>", "sessions wait for GPUs at most so long", policyLifetime("--wait", 0)),
    servers: values(
      "--servers <label=value>",
      "only servers with this label; several values by commas, several labels by several options",
      serverRequirement("--servers"),
    ),
    allServers: flag("--all-servers", "all servers are allowed, whatever others say"),
    serviceOnly: value("--service-only <yes|no>", "only the client's service gets sessions", yesOrNo),
    isHard: flag("--hard", "nobody more specific may widen the fields that this command sets"),
  },
  details: [
    "Field by field the most specific policy holds: user, group, client, project, pool.",
    "'unlimited' in place of a number, size or duration is without limit.",
  ].join("\n"),
  examples: [
    {
      line: "farpool admin policies set --pool --gpus 4 --idle-timeout 1h",
      does: "for everybody of whom nothing else is said",
    },
    {
      line: "farpool admin policies set --client ws-17 --gpus 2 --hard",
      does: "for a client, whoever uses it",
    },
    {
      line: "farpool admin policies set --group vision --servers zone=a,b",
      does: "only servers whose label zone is a or b",
    },
  ],
  run: async ({ options }) => (await import("../pool/policies.ts")).set(options),
});

const removePolicy = defineCommand({
  name: "remove",
  summary: "remove fields of a policy, or all of it",
  arguments: "[field...]",
  options: scopeOptions,
  details: "Fields are called as the options of 'set': gpus, memory, max-duration.",
  run: async ({ options, arguments: fields }) =>
    (await import("../pool/policies.ts")).remove(options, fields.map(policyFieldName)),
});

const explainPolicy = defineCommand({
  name: "explain",
  summary: "what holds for somebody, field by field, and why",
  options: {
    ...jsonOption,
    user: scopeOptions.user,
    client: scopeOptions.client,
    project: scopeOptions.project,
  },
  run: async ({ options }) => (await import("../pool/policies.ts")).explain(options),
});

export const policiesCommand = defineCommand({
  name: "policies",
  summary: "what users, groups, clients and projects may have",
  options: jsonOption,
  run: listPolicies,
  commands: [
    defineCommand({
      name: "list",
      summary: "all policies",
      options: jsonOption,
      run: listPolicies,
    }),
    setPolicy,
    removePolicy,
    explainPolicy,
  ],
});

const listGroups = async ({ options }: { readonly options: { readonly isJson: boolean } }) =>
  (await import("../pool/groups.ts")).list(options.isJson);

export const groupsCommand = defineCommand({
  name: "groups",
  summary: "groups of users",
  options: jsonOption,
  run: listGroups,
  commands: [
    defineCommand({ name: "list", summary: "groups and their users", options: jsonOption, run: listGroups }),
    defineCommand({
      name: "add",
      summary: "put users into a group, which is made if there is none",
      arguments: "<group> <user...>",
      run: async ({ arguments: [group = "", ...users] }) =>
        (await import("../pool/groups.ts")).add(group, users),
    }),
    defineCommand({
      name: "remove",
      summary: "take users out of a group; without users, remove the group and its policy",
      arguments: "<group> [user...]",
      run: async ({ arguments: [group = "", ...users] }) =>
        (await import("../pool/groups.ts")).remove(group, users),
    }),
  ],
});

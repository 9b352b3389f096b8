import { parseMemory, parseShare } from "@farpool/contract";
import { defineCommand, flag, value, values } from "../core/command.ts";
import { holdMode, serverRequirement } from "../core/parse-policies.ts";
import { lifetimeMs, wholeNumber } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

export const showSpecification = defineCommand({
  name: "show",
  summary: "one client, and what its service may have",
  arguments: "<client>",
  options: jsonOption,
  run: async ({ options, arguments: [client = ""] }) =>
    (await import("../pool/client-specification.ts")).show(options.isJson, client),
});

export const setSpecification = defineCommand({
  name: "set",
  summary: "say what the service of a client may have",
  arguments: "<client>",
  options: {
    ...jsonOption,
    count: value("-n, --num-gpus <count>", "how many GPUs (default: 1)", wholeNumber("-n", 1, 100_000)),
    share: value("-p, --partial <share>", "a share of each GPU's memory, 0 < share ≤ 1", parseShare),
    memory: value("-m, --memory <size>", "an amount of each GPU's memory", parseMemory),
    filter: values("--filter <label=value>", "only servers with this label", serverRequirement("--filter")),
    hold: value("--hold <always|on-demand>", "when it has its GPUs (default: always)", holdMode),
    idleTimeout: value(
      "--idle-timeout <duration>",
      "it gives them back after so long without use",
      lifetimeMs("--idle-timeout"),
    ),
    isServiceOnly: flag("--service-only", "the client gets no session but its service's"),
    allowsOthers: flag("--allow-others", "other sessions beside the service's are allowed"),
    isNone: flag("--none", "say nothing of its service any more"),
  },
  details: [
    "This holds for whoever has the client's key, root on that machine included: its own file can only ask for less.",
    "Beside its service's session a client gets no other one, unless --allow-others is given.",
  ].join("\n"),
  run: async ({ options, arguments: [client = ""] }) =>
    (await import("../pool/client-specification.ts")).set(options, client),
});

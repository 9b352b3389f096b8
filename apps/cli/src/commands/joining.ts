import { parseLabels } from "@farpool/contract";
import { completed, defineCommand, flag, value } from "../core/command.ts";
import { machineName } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";
import { serverOptions } from "./up.ts";

export const joinCommand = defineCommand({
  name: "join",
  summary: "make this machine a client or a server of a pool",
  arguments: "[string]",
  options: {
    isServer: flag("--server", "as a server: its GPUs are offered (the string must be for one)"),
    isClient: flag("--client", "as a client: programs here use the pool's GPUs"),
    name: value("--name <name>", "what the pool calls it (default: the host's name)", machineName),
    labels: value("--labels <labels>", "for example rack=7,class=a100", parseLabels),
    onFirstBoot: completed(
      value(
        "--on-first-boot <file>",
        "join once with the string in this file, at each start (for images)",
        String,
      ),
      "file",
    ),
    ...jsonOption,
  },
  details: [
    "The string comes from 'farpool admin tokens create --client' (or --server) on the manager's machine, or from",
    "'farpool up --listen ADDRESS'. It names the manager, its certificate authority and a secret, and nothing else is needed.",
    "",
    "An image has a string for many machines (--uses) in a file that only root reads, and runs 'farpool join --on-first-boot FILE'",
    "at each start. A machine that has not joined yet does so under its own name, and removes the file. One that was copied after",
    "it had joined is told by /etc/machine-id: it drops the copied identity first. For all others the command does nothing.",
  ].join("\n"),
  run: async ({ options, arguments: [text = ""] }) =>
    options.onFirstBoot === undefined
      ? (await import("../joining/join.ts")).join(options, text)
      : (await import("../joining/first-boot.ts")).joinOnFirstBoot(options, options.onFirstBoot, text),
});

export const leaveCommand = defineCommand({
  name: "leave",
  summary: "take this machine out of the pool that it has joined",
  options: {
    isServer: flag("--server", "as a server only"),
    isClient: flag("--client", "as a client only"),
    isForget: flag("--forget", "remove what is on this machine, without telling the manager"),
  },
  run: async ({ options }) => (await import("../joining/join.ts")).leave(options),
});

export const serverCommand = defineCommand({
  name: "server",
  summary: "offer this machine's GPUs to the pool that it has joined",
  options: serverOptions,
  run: async ({ options }) => (await import("../joining/server.ts")).server(options),
});

const removeOptions = {
  ...jsonOption,
  reason: value("--reason <text>", "why, for the audit and those who come later", String),
} as const;

export const serversCommand = defineCommand({
  name: "servers",
  summary: "the pool's servers; remove one",
  options: jsonOption,
  run: async ({ options }) => (await import("../joining/machines.ts")).servers(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      summary: "servers, as without a command",
      options: jsonOption,
      run: async ({ options }) => (await import("../joining/machines.ts")).servers(options.isJson),
    }),
    defineCommand({
      name: "remove",
      summary: "trust a server no longer: its sessions end",
      arguments: "<server>",
      options: removeOptions,
      run: async ({ options, arguments: [named = ""] }) =>
        (await import("../joining/machines.ts")).remove({ ...options, role: "server" }, named),
    }),
  ],
});

export const clientsCommand = defineCommand({
  name: "clients",
  summary: "the pool's clients; remove one",
  options: jsonOption,
  run: async ({ options }) => (await import("../joining/machines.ts")).clients(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      summary: "clients, as without a command",
      options: jsonOption,
      run: async ({ options }) => (await import("../joining/machines.ts")).clients(options.isJson),
    }),
    defineCommand({
      name: "remove",
      summary: "trust a client that has joined no longer: its sessions end",
      arguments: "<client>",
      options: removeOptions,
      run: async ({ options, arguments: [named = ""] }) =>
        (await import("../joining/machines.ts")).remove({ ...options, role: "client" }, named),
    }),
  ],
});

import { defineCommand, flag, value } from "../core/command.ts";
import { duration, instant } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

export const serversCommand = defineCommand({
  name: "servers",
  summary: "list, drain and label servers",
  options: jsonOption,
  run: async ({ options }) => (await import("../pool/servers.ts")).servers(options.isJson),
  commands: [
    defineCommand({
      name: "list",
      summary: "all servers, and whether they take sessions",
      options: jsonOption,
      run: async ({ options }) => (await import("../pool/servers.ts")).servers(options.isJson),
    }),
    defineCommand({
      name: "show",
      summary: "one server with its GPUs and how they are",
      arguments: "<server>",
      options: jsonOption,
      run: async ({ options, arguments: [name = ""] }) =>
        (await import("../pool/servers.ts")).show(options.isJson, name),
    }),
    defineCommand({
      name: "drain",
      summary: "let no new sessions on a server; those it has go on",
      arguments: "<server>",
      options: {
        ...jsonOption,
        reason: value("--reason <text>", "why, for those who wait", String),
        wait: {
          ...value("--wait [duration]", "return when its last session is over", duration("--wait")),
          bare: "365d",
        },
      },
      details: "With --wait the exit code is 75 when sessions are left after the duration.",
      run: async ({ options, arguments: [name = ""] }) =>
        (await import("../pool/servers.ts")).drain(options, name),
    }),
    defineCommand({
      name: "undrain",
      summary: "let sessions on a server again",
      arguments: "<server>",
      options: jsonOption,
      run: async ({ options, arguments: [name = ""] }) =>
        (await import("../pool/servers.ts")).undrain(options.isJson, name),
    }),
    defineCommand({
      name: "maintenance",
      summary: "no new sessions until a time, and tell those who wait; then it serves again by itself",
      arguments: "<server>",
      options: {
        ...jsonOption,
        until: value("--until <time>", "its end: 2026-12-01T06:00Z", instant("--until")),
        for: value("--for <duration>", "its length from now: 2h, 90m", duration("--for")),
        message: value("--message <text>", "what those who wait are told", String),
        isEnd: flag("--end", "it is over before its time"),
      },
      run: async ({ options, arguments: [name = ""] }) =>
        (await import("../pool/servers.ts")).maintenance(options, name),
    }),
    defineCommand({
      name: "label",
      summary: "give a server labels (zone=b), or take them away (zone-)",
      arguments: "<server> <labels...>",
      options: jsonOption,
      run: async ({ options, arguments: [name = "", ...labels] }) =>
        (await import("../pool/servers.ts")).label(options.isJson, name, labels),
    }),
  ],
});

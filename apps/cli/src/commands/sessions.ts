import { defineCommand, value } from "../core/command.ts";
import { lifetimeMs, wholeNumber } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";

const listOptions = {
  ...jsonOption,
  ended: value("--ended <count>", "also the last ones that ended", wholeNumber("--ended", 0, 1_000)),
} as const;

export const sessionsCommand = defineCommand({
  name: "sessions",
  summary: "list, show and end sessions",
  options: listOptions,
  run: async ({ options }) => (await import("../pool/sessions.ts")).list(options.isJson, options.ended ?? 0),
  commands: [
    defineCommand({
      name: "list",
      summary: "sessions that run or wait, as without a command",
      options: listOptions,
      run: async ({ options }) =>
        (await import("../pool/sessions.ts")).list(options.isJson, options.ended ?? 0),
    }),
    defineCommand({
      name: "show",
      summary: "one session with its events and processes",
      arguments: "<session>",
      candidates: "sessions",
      options: jsonOption,
      run: async ({ options, arguments: [id = ""] }) =>
        (await import("../pool/sessions.ts")).show(options.isJson, id),
    }),
    defineCommand({
      name: "extend",
      summary: "let a session live longer than its maximum duration",
      arguments: "<session> <duration>",
      options: jsonOption,
      run: async ({ options, arguments: [id = "", duration = ""] }) =>
        (await import("../pool/session-changes.ts")).extend(
          options.isJson,
          id,
          lifetimeMs("extend")(duration),
        ),
    }),
    defineCommand({
      name: "message",
      summary: "show a text on the terminal of a session's run",
      arguments: "<session> <text...>",
      options: jsonOption,
      run: async ({ options, arguments: [id = "", ...words] }) =>
        (await import("../pool/session-changes.ts")).message(options.isJson, id, words.join(" ")),
    }),
    defineCommand({
      name: "end",
      summary: "end a session: its programs lose their GPUs",
      arguments: "<session>",
      candidates: "sessions",
      options: jsonOption,
      run: async ({ options, arguments: [id = ""] }) =>
        (await import("../pool/sessions.ts")).end(options.isJson, id),
    }),
  ],
});

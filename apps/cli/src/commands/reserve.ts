import { defineCommand, flag, value } from "../core/command.ts";
import { lifetimeMs } from "../core/parse-values.ts";
import { jsonOption } from "./pool.ts";
import { sessionOptions } from "./run.ts";

export const reserveCommand = defineCommand({
  name: "reserve",
  summary: "take GPUs that stay taken without a program; prints the session's id",
  options: {
    ...sessionOptions,
    ...jsonOption,
    autoRelease: value(
      "--auto-release <duration>",
      "give them back when nothing was attached for so long",
      lifetimeMs("--auto-release"),
    ),
  },
  examples: [
    { line: "id=$(farpool reserve -n 1 --auto-release 30m)", does: "takes a GPU" },
    { line: "farpool attach $id -- python train.py", does: "runs a program with it" },
    { line: "farpool release $id", does: "gives it back" },
  ],
  run: async ({ options }) => {
    const [{ reserve }, { isTerminal, print, printJson, say }] = await Promise.all([
      import("../run/run.ts"),
      import("../core/output.ts"),
    ]);
    return reserve(options, (session) => {
      if (!options.isQuiet && (options.isVerbose || isTerminal()))
        say(`'farpool attach ${session.id} -- PROGRAM' runs in it, 'farpool release ${session.id}' ends it`);
      if (options.isJson) printJson(session);
      else print(session.id);
    });
  },
});

export const attachCommand = defineCommand({
  name: "attach",
  summary: "run a program, or a shell, with the GPUs of a reserved session",
  arguments: "<session> [command...]",
  passThrough: true,
  options: {
    isVerbose: flag("-v, --verbose", "say what happens, also when stderr is no terminal"),
    isQuiet: flag("-q, --quiet", "say nothing but errors"),
  },
  run: async ({ options, arguments: [id = "", ...words] }) => {
    const [{ attach }, { parseId }] = await Promise.all([
      import("../run/run.ts"),
      import("../pool/sessions.ts"),
    ]);
    return attach(options, parseId(id), words[0] === "--" ? words.slice(1) : words);
  },
});

export const releaseCommand = defineCommand({
  name: "release",
  summary: "give the GPUs of a reserved session back",
  arguments: "<session>",
  options: jsonOption,
  run: async ({ options, arguments: [id = ""] }) =>
    (await import("../pool/session-changes.ts")).release(options.isJson, id),
});

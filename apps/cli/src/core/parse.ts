import { Command, CommanderError, Option } from "commander";
import { COMMAND_NAME, ERRORS, FarpoolError, VERSION } from "@farpool/contract";
import type { CommandSpec, OptionSpec } from "./command.ts";

/** Parses and runs; the exit code of the command that was called. */
export async function execute(root: CommandSpec, words: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = build(root, (code) => {
    exitCode = code;
  });
  program
    .version(`${COMMAND_NAME} ${VERSION}`, "--version", "print the version")
    .helpCommand("help [command]", "print the help of a command");
  try {
    await program.parseAsync([...words], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return explain(error, { groups: groupsOf(root), words });
    throw error;
  }
  return exitCode;
}

function build(spec: CommandSpec, onExit: (code: number) => void): Command {
  const command = new Command(spec.name);
  command
    .description(spec.summary)
    .enablePositionalOptions()
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureOutput({ outputError: () => undefined })
    .helpOption("-h, --help", "print this help")
    .helpCommand(false)
    .configureHelp({ sortSubcommands: false, optionDescription: ({ description }) => description });
  if (spec.details !== undefined) command.addHelpText("after", `\n${spec.details}`);
  if (spec.passThrough === true) command.passThroughOptions();
  if (spec.arguments !== undefined) command.arguments(spec.arguments);
  const options = new Map<string, Option>();
  for (const [key, option] of Object.entries(spec.options ?? {})) {
    const built = buildOption(option);
    options.set(key, built);
    command.addOption(built);
  }
  for (const child of spec.commands ?? [])
    command.addCommand(build(child, onExit), { hidden: child.hidden === true });
  const { run } = spec;
  if (run !== undefined) {
    command.action(async () => {
      const values = command.opts();
      const named = [...options].map(([key, option]) => [
        key,
        values[option.attributeName()] ?? (option.isBoolean() ? false : undefined),
      ]);
      onExit(await run({ options: Object.fromEntries(named), arguments: command.args }));
    });
  }
  return command;
}

function buildOption(option: OptionSpec): Option {
  const built = new Option(option.flags, option.description);
  if (option.kind === "value") {
    const { parse } = option;
    if (option.isRepeatable === true) {
      built.argParser((text, before: readonly unknown[] | undefined) => (before ?? []).concat(parse(text)));
    } else built.argParser(parse);
    if (option.bare !== undefined) built.preset(option.bare);
  }
  return built;
}

interface Context {
  /** Commands that have commands. */
  readonly groups: readonly string[];
  readonly words: readonly string[];
}

function groupsOf(root: CommandSpec): readonly string[] {
  return (root.commands ?? []).filter(({ commands }) => commands !== undefined).map(({ name }) => name);
}

/** Commander's sentences become ours: a fact, then a hint. */
function explain(error: CommanderError, context: Context): number {
  if (error.exitCode === 0) return 0;
  // A command that only groups others, called alone: its help has been printed.
  if (error.code === "commander.help") return ERRORS.FARPOOL_USAGE.exitCode;
  const [first = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const near = /Did you mean (.*)\?/.exec(suggestion ?? "")?.[1];
  const sentence = rephrase(first, context);
  throw new FarpoolError("FARPOOL_USAGE", sentence, hintFor(error.code, context, near));
}

function rephrase(sentence: string, { groups }: Context): string {
  const excess = /^too many arguments(?: for '(.*?)')?\. Expected (\d+) .* got \d+: (.*)\.$/.exec(sentence);
  if (excess !== null) {
    const [, command = COMMAND_NAME, expected = "0", words = ""] = excess;
    if (groups.includes(command)) return `unknown command '${command} ${words}'`;
    const takes = expected === "0" ? "no arguments" : `${expected} argument${expected === "1" ? "" : "s"}`;
    return `'${command}' takes ${takes}, not '${words}'`;
  }
  const missing = /^option '(.*?) (<\w+>)' argument missing$/.exec(sentence);
  return missing === null ? sentence : `${missing[1]} needs a value: ${missing[2]}`;
}

function hintFor(code: string, { words }: Context, near: string | undefined): { hint?: string } {
  if (near !== undefined) return { hint: `did you mean ${near}?` };
  // An option before any command.
  if (code === "commander.unknownOption" && words[0]?.startsWith("-") === true)
    return { hint: `options follow their command: ${COMMAND_NAME} run -n 1 -- PROGRAM` };
  return {};
}

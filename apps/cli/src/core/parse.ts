import { Command, CommanderError, Option } from "commander";
import { ERRORS, FarpoolError, VERSION } from "@farpool/contract";
import { nearest } from "./nearest.ts";
import {
  allOptions,
  type CommandSpec,
  type OptionSpec,
  type OptionSpecs,
  type OptionValues,
} from "./command.ts";
import { setVerbosity } from "./output.ts";

/** Parses and runs; the exit code of the command that was called. */
export async function execute(root: CommandSpec, words: readonly string[]): Promise<number> {
  let exitCode = 0;
  const program = build(root, (code) => {
    exitCode = code;
  });
  program
    .version(`${root.name} ${VERSION}`, "--version", "print the version")
    .helpCommand("help [command]", "print the help of a command");
  try {
    await program.parseAsync([...words], { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError) return explain(error, { root, words });
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
  const after = [examplesText(spec), spec.details].filter((text) => text !== undefined);
  if (after.length > 0) command.addHelpText("after", `\n${after.join("\n\n")}`);
  if (spec.passThrough === true) command.passThroughOptions();
  if (spec.arguments !== undefined) command.arguments(spec.arguments);
  const options = new Map<string, Option>();
  for (const [key, option] of Object.entries(allOptions(spec))) {
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
      const given: OptionValues<OptionSpecs> = Object.fromEntries(named);
      // A command with a -q of its own has its own idea of it, too.
      if (spec.options?.["isQuiet"] === undefined) {
        if (given["isQuiet"] === true) setVerbosity("quiet");
        else if (given["isVerbose"] === true) setVerbosity("verbose");
      }
      onExit(await run({ options: given, arguments: command.args }));
    });
  }
  return command;
}

function examplesText({ examples }: CommandSpec): string | undefined {
  if (examples === undefined) return undefined;
  const width = Math.max(...examples.map(({ line }) => line.length));
  const lines = examples.map(({ line, does }) => `  ${line.padEnd(width)}  ${does}`);
  return ["Examples:", ...lines].join("\n");
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
  readonly root: CommandSpec;
  readonly words: readonly string[];
}

/** Commander's sentences become ours: a fact, then a hint. */
function explain(error: CommanderError, context: Context): number {
  if (error.exitCode === 0) return 0;
  // A command that only groups others, called alone: its help has been printed.
  if (error.code === "commander.help") return ERRORS.FARPOOL_USAGE.exitCode;
  const [first = "", suggestion] = error.message.replace(/^error: /, "").split("\n");
  const called = calledCommand(context);
  const excess = /^too many arguments(?: for '(.*?)')?\. Expected (\d+) .* got \d+: (.*)\.$/.exec(first);
  if (excess !== null) throw tooMany(called, excess[2] ?? "0", excess[3] ?? "");
  const missing = /^option '(.*?) (<.+>)' argument missing$/.exec(first);
  const sentence = missing === null ? first : `${missing[1]} needs a value: ${missing[2]}`;
  const near = /Did you mean (.*)\?/.exec(suggestion ?? "")?.[1];
  throw new FarpoolError("FARPOOL_USAGE", sentence, hintFor(error.code, context, near));
}

interface Called {
  readonly program: string;
  readonly spec: CommandSpec;
  /** Without the program's name. */
  readonly path: readonly string[];
}

/** As far as the words name commands. */
function calledCommand({ root, words }: Context): Called {
  let spec = root;
  const path: string[] = [];
  for (const word of words) {
    const next = spec.commands?.find(({ name }) => name === word);
    if (next === undefined) break;
    spec = next;
    path.push(word);
  }
  return { program: root.name, spec, path };
}

function tooMany({ program, spec, path }: Called, expected: string, words: string): FarpoolError {
  const command = path.join(" ") || program;
  if (spec.commands === undefined) {
    const takes = expected === "0" ? "no arguments" : `${expected} argument${expected === "1" ? "" : "s"}`;
    return new FarpoolError("FARPOOL_USAGE", `'${command}' takes ${takes}, not '${words}'`);
  }
  const names = spec.commands.flatMap(({ name, hidden }) => (hidden === true ? [] : [name]));
  const [typed = ""] = words.split(/[, ]/);
  const near = nearest(typed, names);
  const hint = `'${program} ${command} --help' lists its commands`;
  return new FarpoolError("FARPOOL_USAGE", `unknown command '${command} ${typed}'`, {
    hint: near === undefined ? hint : `did you mean '${program} ${command} ${near}'?`,
  });
}

function hintFor(code: string, context: Context, near: string | undefined): { hint?: string } {
  const { root, words } = context;
  if (near !== undefined) return { hint: `did you mean ${near}?` };
  // An option before any command.
  if (code === "commander.unknownOption" && words[0]?.startsWith("-") === true)
    return { hint: `options follow their command: ${root.name} run -n 1 -- PROGRAM` };
  const { path } = calledCommand(context);
  return path.length === 0 ? {} : { hint: `'${[root.name, ...path].join(" ")} --help' lists its options` };
}

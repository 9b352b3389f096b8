import { COMMAND_NAME } from "@farpool/contract";
import {
  allOptions,
  COMMON_OPTIONS,
  type Candidates,
  type CommandSpec,
  type Example,
  type OptionSpec,
} from "../core/command.ts";

/** One option as pages and completions show it. */
export interface OptionView {
  /** `-n, --num-gpus <count>`. */
  readonly flags: string;
  /** `-n`, `--num-gpus`. */
  readonly names: readonly string[];
  readonly description: string;
  /** `required`: the next word is its value. A bare `optional` one takes only what is tied to it by `=`. */
  readonly value: "none" | "required" | "optional";
  /** What its value is called: `<count>`. */
  readonly placeholder: string;
  readonly candidates: Candidates;
  readonly isRepeatable: boolean;
  /** Of every command, and said once. */
  readonly isCommon: boolean;
}

/** One command as pages and completions show it; hidden ones are not among them. */
export interface CommandView {
  /** `["farpool", "sessions", "list"]`. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly usage: string;
  readonly arguments: string | undefined;
  readonly candidates: Candidates;
  readonly passThrough: boolean;
  readonly options: readonly OptionView[];
  readonly examples: readonly Example[];
  readonly details: string | undefined;
  readonly commands: readonly CommandView[];
}

const HELP: OptionView = {
  flags: "-h, --help",
  names: ["-h", "--help"],
  description: "print this help",
  value: "none",
  placeholder: "",
  candidates: [],
  isRepeatable: false,
  isCommon: true,
};
const VERSION_OPTION: OptionView = {
  ...HELP,
  flags: "--version",
  names: ["--version"],
  description: "print the version",
  isCommon: false,
};

export function viewCommand(spec: CommandSpec, above: readonly string[] = []): CommandView {
  const path = [...above, spec.name];
  const commands = (spec.commands ?? [])
    .filter(({ hidden }) => hidden !== true)
    .map((child) => viewCommand(child, path));
  const own = Object.values(allOptions(spec)).map(viewOption);
  const isRoot = above.length === 0;
  const needsCommand = commands.length > 0 && spec.run === undefined;
  const group = needsCommand ? ["COMMAND"] : ["[COMMAND]"];
  const usage = [
    ...path,
    ...(own.length > 0 ? ["[OPTION]..."] : []),
    ...(spec.arguments === undefined ? [] : [`${spec.passThrough === true ? "[--] " : ""}${spec.arguments}`]),
    ...(commands.length > 0 ? group : []),
  ].join(" ");
  return {
    path,
    summary: spec.summary,
    usage,
    arguments: spec.arguments,
    candidates: spec.candidates ?? [],
    passThrough: spec.passThrough === true,
    options: [...own, ...(isRoot ? [VERSION_OPTION] : []), HELP],
    examples: spec.examples ?? [],
    details: spec.details,
    commands,
  };
}

function viewOption(option: OptionSpec): OptionView {
  const placeholder = /[<[].*$/.exec(option.flags)?.[0] ?? "";
  const takesValue = placeholder.startsWith("<") ? "required" : "optional";
  return {
    flags: option.flags,
    names: option.flags.replace(placeholder, "").trim().split(/[ ,]+/),
    description: option.description,
    value: option.kind === "flag" ? "none" : takesValue,
    placeholder,
    candidates: option.kind === "value" ? (option.candidates ?? []) : [],
    isRepeatable: option.kind === "value" && option.isRepeatable === true,
    isCommon: Object.values(COMMON_OPTIONS).some((each) => each === option),
  };
}

/** What every command takes, for pages that say it once. */
export const COMMON_VIEWS: readonly OptionView[] = [...Object.values(COMMON_OPTIONS).map(viewOption), HELP];

/** The command and all below it, in the order of the pages. */
export function withChildren(view: CommandView): CommandView[] {
  return [view, ...view.commands.flatMap(withChildren)];
}

/** The name of a command's manual page: `farpool-sessions`. */
export function pageName({ path }: CommandView): string {
  return path.slice(0, 2).join("-");
}

/** How the command is called below the program's own name: `sessions list`. */
export function spoken({ path }: CommandView): string {
  return path.slice(1).join(" ") || COMMAND_NAME;
}

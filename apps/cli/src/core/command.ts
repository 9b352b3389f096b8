/**
 * Commands as data: options, arguments and texts are listed here, and parser, help and suggestions come
 * from the list. What a command does is loaded when it is called, so no command pays for another.
 */

/** What the value of an option or an argument can be, for completion; lists of the pool are asked when needed. */
export type Candidates =
  | readonly string[]
  | "file"
  | "folder"
  | "program"
  | "sessions"
  | "servers"
  | "gpus"
  | "clients";

export interface FlagOption {
  readonly kind: "flag";
  readonly flags: string;
  readonly description: string;
}

export interface ValueOption<T> {
  readonly kind: "value";
  readonly flags: string;
  readonly description: string;
  readonly parse: (text: string) => T;
  /** `--name [value]`: what a bare `--name` means, as text. */
  readonly bare?: string;
  /** May be given several times: all values, in order. */
  readonly isRepeatable?: boolean;
  readonly candidates?: Candidates;
}

export type OptionSpec = FlagOption | ValueOption<unknown>;
export type OptionSpecs = Readonly<Record<string, OptionSpec>>;

export type OptionValues<O extends OptionSpecs> = {
  readonly [K in keyof O]: O[K] extends ValueOption<infer T> ? T | undefined : boolean;
};

export interface Invocation<O extends OptionSpecs = OptionSpecs> {
  readonly options: OptionValues<O>;
  readonly arguments: readonly string[];
}

export interface Example {
  readonly line: string;
  readonly does: string;
}

/**
 * Everything that is said about a command anywhere: the parser, `--help`, the manual page, docs/reference/cli.md and
 * the completions of the shells are made of it. To add a command, define it and list it in commands/index.ts.
 */
export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  readonly examples?: readonly Example[];
  /** After the list of options: paragraphs, with an empty line between them. Indented lines stay lines. */
  readonly details?: string;
  /** As commander writes them: `<session>`, `[command...]`. */
  readonly arguments?: string;
  /** What the arguments can be. */
  readonly candidates?: Candidates;
  readonly options?: OptionSpecs;
  /** Everything from the first argument on belongs to another program. */
  readonly passThrough?: boolean;
  readonly hidden?: boolean;
  readonly commands?: readonly CommandSpec[];
  /** Beside commands: what the group does when it is called alone. */
  readonly run?: (invocation: Invocation) => Promise<number>;
}

export function flag(flags: string, description: string): FlagOption {
  return { kind: "flag", flags, description };
}

export function value<T>(flags: string, description: string, parse: (text: string) => T): ValueOption<T> {
  return { kind: "value", flags, description, parse };
}

/** An option that may be given several times. */
export function values<T>(
  flags: string,
  description: string,
  parse: (text: string) => T,
): ValueOption<readonly T[]> {
  return { kind: "value", flags, description, parse: (text) => [parse(text)], isRepeatable: true };
}

/** An option whose value a shell can complete. */
export function completed<T>(option: ValueOption<T>, candidates: Candidates): ValueOption<T> {
  return { ...option, candidates };
}

/** What every command takes unless it has options of its own with these names. */
export const COMMON_OPTIONS = {
  isVerbose: flag("-v, --verbose", "say what happens, in detail"),
  isQuiet: flag("-q, --quiet", "say nothing but errors"),
} as const satisfies OptionSpecs;

const flagsOf = (specs: OptionSpecs): string[] => Object.values(specs).map(({ flags }) => flags);

/** A command's options, the common ones last. Commands that only group others have none. */
export function allOptions(spec: CommandSpec): OptionSpecs {
  const own = spec.options ?? {};
  if (spec.run === undefined) return own;
  const taken = new Set(flagsOf(own).flatMap((flags) => flags.split(/[ ,]+/)));
  const common = Object.entries(COMMON_OPTIONS).filter(([, { flags }]) =>
    flags.split(/[ ,]+/).every((each) => !taken.has(each)),
  );
  return { ...own, ...Object.fromEntries(common) };
}

/** Ties the types of a command's options to the function that runs it. */
export function defineCommand<const O extends OptionSpecs>(
  spec: Omit<CommandSpec, "options" | "run"> & {
    readonly options?: O;
    readonly run?: (invocation: Invocation<O>) => Promise<number>;
  },
): CommandSpec {
  const { run, ...rest } = spec;
  // The parser fills in exactly the options that the same object declares.
  return run === undefined ? rest : { ...rest, run: (invocation) => run(invocation as Invocation<O>) };
}

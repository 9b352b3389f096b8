/**
 * Commands as data: options, arguments and texts are listed here, and parser, help and suggestions come
 * from the list. What a command does is loaded when it is called, so no command pays for another.
 */

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

export interface CommandSpec {
  readonly name: string;
  readonly summary: string;
  /** After the list of options: examples, exit codes. */
  readonly details?: string;
  readonly arguments?: string;
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

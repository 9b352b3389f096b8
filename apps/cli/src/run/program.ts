import { accessSync, constants, statSync, type Stats } from "node:fs";
import { delimiter, join } from "node:path";

/** As shells count: not found 127, found but not executable 126. */
export class ProgramError extends Error {
  readonly exitCode: 126 | 127;

  constructor(exitCode: 126 | 127, message: string) {
    super(message);
    this.name = "ProgramError";
    this.exitCode = exitCode;
  }
}

/** Looks before GPUs are asked for, so that a typing mistake does not wait in a queue. */
export function findProgram(name: string, searchPath: string | undefined): string {
  if (name === "") throw new ProgramError(127, "the program's name is empty");
  if (name.includes("/")) {
    const problem = problemOf(name);
    if (problem === undefined) return name;
    throw new ProgramError(problem.exitCode, `${name}: ${problem.sentence}`);
  }
  let found: ProgramError | undefined;
  for (const folder of (searchPath ?? "/usr/local/bin:/usr/bin:/bin").split(delimiter)) {
    const candidate = join(folder === "" ? "." : folder, name);
    const problem = problemOf(candidate);
    if (problem === undefined) return candidate.includes("/") ? candidate : `./${candidate}`;
    // As shells do: a folder of PATH that cannot be entered is passed over.
    if (problem.exitCode === 126 && isReachable(candidate))
      found ??= new ProgramError(126, `${candidate}: ${problem.sentence}`);
  }
  throw found ?? new ProgramError(127, `there is no program '${name}' in PATH`);
}

/** A machine without a driver has no nvidia-smi: there it is ours. */
export function findProgramOrOurs(name: string, searchPath: string | undefined, nvidiaSmi: string): string {
  try {
    return findProgram(name, searchPath);
  } catch (error) {
    const isMissing = error instanceof ProgramError && error.exitCode === 127;
    if (isMissing && name === "nvidia-smi" && isReachable(nvidiaSmi)) return nvidiaSmi;
    throw error;
  }
}

function isReachable(path: string): boolean {
  try {
    accessSync(path, constants.F_OK);
    return true;
  } catch {
    return false;
  }
}

function problemOf(path: string): { exitCode: 126 | 127; sentence: string } | undefined {
  let status: Stats | undefined;
  try {
    status = statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    const isHidden = error instanceof Error && "code" in error && error.code === "EACCES";
    return isHidden
      ? { exitCode: 126, sentence: "lies in a folder that this user may not enter" }
      : { exitCode: 127, sentence: "there is no such program" };
  }
  if (status === undefined) return { exitCode: 127, sentence: "there is no such program" };
  if (status.isDirectory()) return { exitCode: 126, sentence: "is a folder, not a program" };
  try {
    accessSync(path, constants.X_OK);
    return undefined;
  } catch {
    return { exitCode: 126, sentence: "may not be executed (chmod +x makes it a program)" };
  }
}

/** What the system said when it was executed after all: a missing interpreter, a foreign architecture. */
export function spawnError(name: string, error: NodeJS.ErrnoException): ProgramError {
  if (error.code === "ENOENT") return new ProgramError(127, `${name}: its interpreter is missing`);
  const causes: Readonly<Record<string, string>> = {
    EACCES: "may not be executed",
    ENOEXEC: "is not a program for this machine",
    E2BIG: "the arguments are too long",
  };
  return new ProgramError(
    126,
    `${name}: ${causes[error.code ?? ""] ?? `cannot be executed (${error.code ?? error.message})`}`,
  );
}

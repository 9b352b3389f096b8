import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { COMMAND_NAME, FarpoolError } from "@farpool/contract";
import type { CommandSpec } from "../core/command.ts";
import { print } from "../core/output.ts";
import { bashCompletion } from "./bash.ts";
import { viewCommand, type CommandView } from "./commands.ts";
import { fishCompletion } from "./fish.ts";
import { manualPages } from "./man.ts";
import { referencePages } from "./pages.ts";
import { zshCompletion } from "./zsh.ts";

const SHELLS: Readonly<Record<string, (root: CommandView) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

export function completion(spec: CommandSpec, shell: string): number {
  const write = SHELLS[shell];
  if (write === undefined) {
    throw new FarpoolError("FARPOOL_USAGE", `there is no completion for the shell '${shell}'`, {
      hint: `shells are ${Object.keys(SHELLS).join(", ")}`,
    });
  }
  print(write(viewCommand(spec)).trimEnd());
  return 0;
}

/** Writes manual pages and completions to where they belong below `share`, and nothing that is not current. */
export function writeShare(spec: CommandSpec, folder: string): number {
  const root = viewCommand(spec);
  const manual = join(folder, "man/man1");
  rmSync(manual, { recursive: true, force: true });
  for (const [name, text] of manualPages(root)) write(join(manual, name), text);
  write(join(folder, "bash-completion/completions", COMMAND_NAME), bashCompletion(root));
  write(join(folder, "zsh/site-functions", `_${COMMAND_NAME}`), zshCompletion(root));
  write(join(folder, "fish/vendor_completions.d", `${COMMAND_NAME}.fish`), fishCompletion(root));
  return 0;
}

/** Writes what the tests compare docs/reference with. */
export function writeReference(spec: CommandSpec, folder: string): number {
  for (const [name, text] of referencePages(spec)) write(join(folder, name), text);
  return 0;
}

function write(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}

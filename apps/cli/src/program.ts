import { COMMANDS } from "./commands/index.ts";
import { complain } from "./core/output.ts";
import { execute } from "./core/parse.ts";

export async function main(words: readonly string[]): Promise<number> {
  try {
    return await execute(COMMANDS, words);
  } catch (error) {
    return complain(error);
  }
}

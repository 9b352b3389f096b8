import * as z from "zod";

/**
 * Text that others chose: names of programs, hosts, people. Control characters would break lines, terminals
 * and the database, so they are shown as what they are not: a question mark.
 */
export function foreignText(most: number) {
  return z
    .string()
    .max(most)
    .overwrite((text) => text.replaceAll(/\p{Cc}/gu, "?"));
}

import * as z from "zod";

/**
 * Text that others chose: names of programs, hosts, people. Control characters would break lines, terminals
 * and the database, so they are shown as what they are not: a question mark.
 */
export function foreignText(most: number) {
  return z
    .string()
    .max(most)
    .overwrite((text) => text.toWellFormed().replaceAll(/\p{Cc}/gu, "?"));
}

/** Text of machines: names and numbers that have no other characters than these. */
export function plainText(most: number) {
  return z
    .string()
    .max(most)
    .regex(/^[ -~]*$/, "only printable ASCII characters are expected");
}

/** A number of processes, devices and the like: what 31 bits hold. */
export const count32Schema = z.int().min(0).max(2_147_483_647);

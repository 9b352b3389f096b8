import { readFileSync, statSync } from "node:fs";
import { FarpoolError, machineCertificateSchema } from "@farpool/contract";
import * as z from "zod";
import { replacePrivateFile } from "./private-file.ts";

/** How a machine is in a pool: what `join` was told, beside the key in a file of its own. */
export const membershipSchema = machineCertificateSchema.omit({ validSeconds: true }).extend({
  host: z.string(),
  port: z.int(),
  /** By this machine's clock, from when on the certificate is to be renewed, and until when it is good. */
  renewAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  /** By what this machine is told from its copies; null: nobody noted it. */
  machine: z.string().nullable().default(null),
});
export type Membership = z.output<typeof membershipSchema>;

/** How a person is in a pool: what `login` was told. */
export const signInFileSchema = z.object({
  user: z.string(),
  token: z.string(),
  expiresAt: z.iso.datetime(),
  /** Null: this machine has joined, or the pool is its own. */
  manager: z.object({ host: z.string(), port: z.int(), authority: z.string() }).nullable(),
});
export type SignInFile = z.output<typeof signInFileSchema>;

export const readMembership = (file: string): Membership | undefined => readPrivate(file, membershipSchema);
export const readSignIn = (file: string): SignInFile | undefined => readPrivate(file, signInFileSchema);

/** Undefined when there is none. Refused when others may read it: it is as good as its owner. */
function readPrivate<S extends z.ZodObject>(file: string, schema: S): z.output<S> | undefined {
  const status = statSync(file, { throwIfNoEntry: false });
  if (status === undefined) return undefined;
  if ((status.mode & 0o077) !== 0) {
    const mode = (status.mode & 0o777).toString(8).padStart(4, "0");
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", `others may read ${file}: it has mode ${mode}`, {
      hint: `if nobody has read it, chmod 600 ${file}; else 'farpool leave' or 'farpool logout'`,
    });
  }
  try {
    return schema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const why = code === "" ? "it is not what farpool wrote" : code;
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `${file} cannot be used: ${why}`, {
      hint: "'farpool leave --forget' and 'farpool logout --forget' remove such files",
      cause,
    });
  }
}

export function writePrivate(file: string, value: Membership | SignInFile): void {
  replacePrivateFile(file, `${JSON.stringify(value, null, 2)}\n`);
}

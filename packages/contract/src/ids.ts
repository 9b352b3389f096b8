import * as z from "zod";
import { plainText } from "./text.ts";

/** A session's id has at most 32 bytes: the preface of a data connection carries it (ARCHITECTURE 4.3). */
export const sessionIdSchema = z
  .string()
  .regex(/^s-[a-z0-9]{3,30}$/, "a session id looks like s-7f3k2m9q")
  .brand<"SessionId">();
export type SessionId = z.output<typeof sessionIdSchema>;

/** Without characters that are mistaken for others when read aloud or copied. */
const SESSION_ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz";

/** A new one; `randomBelow` answers a whole number from 0 up to below its argument. */
export function newSessionId(randomBelow: (limit: number) => number): SessionId {
  let text = "s-";
  for (let digit = 0; digit < 8; digit += 1) text += SESSION_ALPHABET[randomBelow(SESSION_ALPHABET.length)];
  return sessionIdSchema.parse(text);
}

export const serverIdSchema = z.uuid().brand<"ServerId">();
export type ServerId = z.output<typeof serverIdSchema>;

/** As the driver reports it, with the vendor's `GPU-` prefix. */
export const gpuUuidSchema = plainText(80).min(1).brand<"GpuUuid">();
export type GpuUuid = z.output<typeof gpuUuidSchema>;

/** 128 random bits that name one client process at the acceptor, in hexadecimal. */
export const connectionIdSchema = z
  .string()
  .regex(/^[0-9a-f]{32}$/, "a connection id is 32 hexadecimal digits")
  .brand<"ConnectionId">();
export type ConnectionId = z.output<typeof connectionIdSchema>;

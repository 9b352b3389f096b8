import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { FarpoolError } from "@farpool/contract";
import type { FastifyInstance } from "fastify";

export const PUBLIC_PATHS: ReadonlySet<string> = new Set(["/healthz", "/readyz", "/openapi.json", "/docs"]);

/**
 * Who may do what, today: whoever can open the Unix socket (0600, in a folder of mode 0700) or knows the
 * token is an administrator.
 */
export function requireAccess(
  app: FastifyInstance,
  token: string,
  isTrusted: (socket: Socket) => boolean,
): void {
  const expected = digest(`Bearer ${token}`);
  app.addHook("onRequest", async (request) => {
    if (PUBLIC_PATHS.has(request.routeOptions.url ?? "") || isTrusted(request.raw.socket)) return;
    const given = request.headers.authorization;
    if (given !== undefined && timingSafeEqual(digest(given), expected)) return;
    throw new FarpoolError(
      "FARPOOL_UNAUTHENTICATED",
      given === undefined ? "over TCP the manager wants a token" : "the token is not the pool's",
    );
  });
}

/** Equal lengths for the comparison, whatever was sent. */
function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

export function readOrCreateToken(file: string): string {
  if (!existsSync(file))
    writeFileSync(file, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
  const token = readFileSync(file, "utf8").trim();
  if (token.length < 20)
    throw new Error(`the token in ${file} has fewer than 20 characters; remove the file to get a new one`);
  return token;
}

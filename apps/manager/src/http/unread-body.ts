import { finished } from "node:stream/promises";
import type { FastifyInstance } from "fastify";

/** So long a sender may go on with what nobody will read, before it is answered all the same. */
const LINGER_MS = 1_000;

/**
 * A request may be refused before its body is read: it is too long, or who sends it may not. An answer that overtakes
 * the body is lost where the connection ends with it: closing a socket with unread bytes resets it, and the sender
 * sees that instead. So the rest is read and dropped first.
 */
export function dropUnreadBodies(app: FastifyInstance): void {
  app.addHook("onSend", async ({ raw }) => {
    if (raw.complete || raw.destroyed) return;
    raw.resume();
    // Whether the body ended, its sender left or the time is over: the answer goes out now.
    await finished(raw, { signal: AbortSignal.timeout(LINGER_MS), cleanup: true }).catch(() => {});
  });
}

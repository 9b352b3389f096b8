import { createHmac } from "node:crypto";
import type { ConnectionId } from "@farpool/contract";

/** Shows the acceptor, which has no keys, that somebody entitled to the session named this connection: 32 bytes. */
export function routingToken(secret: string, connection: ConnectionId): Buffer {
  return token(secret, "farpool route", connection);
}

/** Shows the acceptor that the broker itself says that the connection's process is dead: 32 bytes. */
export function endToken(secret: string, connection: ConnectionId): Buffer {
  return token(secret, "farpool end", connection);
}

function token(secret: string, purpose: string, connection: ConnectionId): Buffer {
  return createHmac("sha256", Buffer.from(secret, "hex"))
    .update(purpose)
    .update(Buffer.from(connection, "hex"))
    .digest();
}

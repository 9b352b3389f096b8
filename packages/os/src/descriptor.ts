import type { Server, Socket } from "node:net";

/** The number of an open file of this process. */
export type Descriptor = number;

/**
 * The descriptor below a socket or a server of Node, which stays Node's: it is used at once and never closed.
 *
 * Node has no public way to it. `_handle.fd` is what Node itself uses to hand sockets to child processes; it is
 * -1 or gone when the socket is closed.
 */
export function descriptorOf(socket: Socket | Server | Descriptor): Descriptor {
  if (typeof socket === "number") return socket;
  const { _handle: handle } = socket as { readonly _handle?: { readonly fd?: unknown } | null };
  if (typeof handle?.fd === "number" && handle.fd >= 0) return handle.fd;
  throw Object.assign(new Error("the socket has no descriptor: it is closed, or was never connected"), {
    code: "EBADF",
  });
}

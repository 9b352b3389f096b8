import type { Server, Socket } from "node:net";
import { addOn } from "./add-on.ts";
import { descriptorOf, type Descriptor } from "./descriptor.ts";

/**
 * A listening socket that this process only holds: `stdio` of `spawn` hands it to others, and it goes on
 * listening while they are replaced. `host` is an IP address; `::` takes IPv4, too; port 0 is a free one.
 */
export function listenTcp(host: string, port: number): Descriptor {
  return addOn().listenTcp(host, port);
}

/** The same at a path. A socket file on which nobody answers is replaced; whoever holds the socket removes it. */
export function listenUnix(path: string, mode: number): Descriptor {
  return addOn().listenUnix(path, mode);
}

export function localPort(socket: Descriptor): number {
  return addOn().localPort(descriptorOf(socket));
}

export interface BufferSizes {
  readonly receiveBytes: number;
  readonly sendBytes: number;
}

/** Bounds what the kernel buffers for a socket, or for all that a listening one will accept. */
export function setBufferSizes(
  socket: Socket | Server | Descriptor,
  { receiveBytes, sendBytes }: BufferSizes,
): void {
  addOn().setBufferSizes(descriptorOf(socket), receiveBytes, sendBytes);
}

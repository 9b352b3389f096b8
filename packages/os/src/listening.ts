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

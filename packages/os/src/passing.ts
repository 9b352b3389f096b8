import type { Socket } from "node:net";
import { addOn } from "./add-on.ts";
import { descriptorOf, type Descriptor } from "./descriptor.ts";
import { watchDescriptor } from "./processes.ts";

export interface ReceivedMessage {
  readonly bytes: Buffer;
  /** The receiver closes them. */
  readonly descriptors: readonly Descriptor[];
}

/**
 * Sends bytes with descriptors over a Unix socket, to any process; they stay open here. One call at a time for
 * a socket, and none while Node has something of its own to write to it.
 */
export async function sendDescriptors(
  socket: Socket | Descriptor,
  bytes: Uint8Array,
  descriptors: readonly Descriptor[],
): Promise<void> {
  let sent = 0;
  do {
    const rest = bytes.subarray(sent);
    // They travel with the first byte.
    const beside = sent === 0 ? descriptors : [];
    sent += await whenReady(socket, "writable", (number) => addOn().sendMessage(number, rest, beside));
  } while (sent < bytes.length);
}

/**
 * Waits for up to `maxBytes` of a stream, or one whole message of a SOCK_SEQPACKET socket, with the descriptors
 * that came along; both are empty at the end of the stream. The socket must not be one that Node reads.
 */
export async function receiveDescriptors(
  socket: Descriptor,
  maxBytes: number,
  signal?: AbortSignal,
): Promise<ReceivedMessage> {
  if (!(maxBytes >= 1))
    throw new RangeError(`a message of at most ${maxBytes} bytes would look like the end`);
  return whenReady(socket, "readable", (number) => addOn().receiveMessage(number, maxBytes), signal);
}

// oxlint-disable-next-line eslint/max-params -- three say what to do, the last one when to leave off
async function whenReady<T>(
  socket: Socket | Descriptor,
  interest: "readable" | "writable",
  work: (descriptor: Descriptor) => T,
  signal?: AbortSignal,
): Promise<T> {
  for (;;) {
    signal?.throwIfAborted();
    // Asked for each time: a socket of Node that was closed meanwhile has lost its number.
    const descriptor = descriptorOf(socket);
    try {
      return work(descriptor);
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
    }
    await readiness(descriptor, interest, signal);
  }
}

function readiness(
  descriptor: Descriptor,
  interest: "readable" | "writable",
  signal: AbortSignal | undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const watch = watchDescriptor(descriptor, interest, () => {
      signal?.removeEventListener("abort", leave);
      clearInterval(alive);
      resolve();
    });
    // A watch lets Node end; somebody who waits for a message does not expect that.
    const alive = setInterval(() => undefined, 60_000);
    const leave = (): void => {
      watch.stop();
      clearInterval(alive);
      reject(signal?.reason as Error);
    };
    signal?.addEventListener("abort", leave, { once: true });
  });
}

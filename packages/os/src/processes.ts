import type { Socket } from "node:net";
import { addOn } from "./add-on.ts";
import { descriptorOf, type Descriptor } from "./descriptor.ts";

/** Who connected a Unix socket, as the kernel knew it then. */
export interface PeerCredentials {
  /** 0 for a process in a pid namespace that is not ours. */
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface Watch {
  /** Nothing is called any more. */
  stop(): void;
}

export function peerCredentials(socket: Socket | Descriptor): PeerCredentials {
  return addOn().peerCredentials(descriptorOf(socket));
}

/**
 * A pidfd of the process that connected; the caller closes it. Linux before 6.5 knows only the process's
 * number: there a process that ended since it connected may be mistaken for its successor of the same number.
 */
export function peerPidfd(socket: Socket | Descriptor): Descriptor {
  return addOn().peerPidfd(descriptorOf(socket));
}

/** When a process began, in clock ticks since boot: with its number it names the process. */
export function processStart(pid: number): number {
  return addOn().processStart(pid);
}

export function processHasEnded(pidfd: Descriptor): boolean {
  return addOn().processHasEnded(pidfd);
}

/**
 * Calls `ended` once, within milliseconds after the process has ended, whoever still has its sockets. It keeps
 * neither Node alive nor the pidfd, which the caller may close at once.
 */
export function watchProcess(pidfd: Descriptor, ended: () => void): Watch {
  return watchDescriptor(pidfd, "readable", ended);
}

/** Calls `then` once when a descriptor that Node does not read or write itself is ready. */
export function watchDescriptor(
  descriptor: Descriptor,
  interest: "readable" | "writable",
  then: () => void,
): Watch {
  let isOver = false;
  const number = addOn().watchDescriptor(descriptor, interest === "writable", () => {
    if (isOver) return;
    isOver = true;
    then();
  });
  return {
    stop() {
      if (isOver) return;
      isOver = true;
      addOn().stopWatching(number);
    },
  };
}

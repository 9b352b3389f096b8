import { createRequire } from "node:module";
import { FarpoolError } from "@farpool/contract";
import { findInstallation } from "@farpool/layout";

/** `dist/lib/farpool-os.node` as native/os/src/exports.rs writes it. Descriptors are numbers, as in Node. */
export interface AddOn {
  peerCredentials(socket: number): { readonly pid: number; readonly uid: number; readonly gid: number };
  peerPidfd(socket: number): number;
  processStart(pid: number): number;
  processHasEnded(pidfd: number): boolean;
  watchDescriptor(descriptor: number, forWriting: boolean, then: () => void): number;
  stopWatching(watch: number): void;
  notifyServiceManager(address: string, state: string, descriptors: readonly number[]): void;
  sendMessage(socket: number, bytes: Uint8Array, descriptors: readonly number[]): number;
  receiveMessage(
    socket: number,
    maxBytes: number,
  ): { readonly bytes: Buffer; readonly descriptors: readonly number[] };
  listenTcp(host: string, port: number): number;
  listenUnix(path: string, mode: number): number;
  localPort(socket: number): number;
  setBufferSizes(socket: number, receiveBytes: number, sendBytes: number): void;
}

let loaded: AddOn | undefined;

/**
 * Loads the add-on when it is first needed. By path: the command line is one bundle, which has no packages
 * beside it.
 */
export function addOn(): AddOn {
  loaded ??= load(findInstallation().addOn);
  return loaded;
}

/** Exported for its test. */
export function load(path: string): AddOn {
  try {
    return createRequire(import.meta.url)(path) as AddOn;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `the add-on ${path} cannot be loaded: ${why}`, {
      hint: "in a checkout, 'npm run build' builds it; an installation is repaired by installing it again",
      cause,
    });
  }
}

import { closeSync, rmSync } from "node:fs";
import { FarpoolError } from "@farpool/contract";
import { acceptorControlSocket, dataSocket, type PoolFolders } from "@farpool/layout";
import { listenTcp, listenUnix, localPort, type Descriptor } from "@farpool/os";
import { portError, requireAddress } from "./ports.ts";

/** The acceptor's listening sockets. They are here, so whoever connects while it is started again waits for it. */
export interface KeptSockets {
  readonly descriptors: readonly Descriptor[];
  /** What each is, as `FARPOOL_LISTEN_FDS` tells the acceptor. */
  readonly names: string;
  readonly dataPort: number;
  close(): void;
}

/** Opens them. Node closes them on exec, so no process has them but those that they are handed to. */
export function keepSockets(host: string, port: number, folders: PoolFolders): KeptSockets {
  requireAddress(host);
  const descriptors: Descriptor[] = [];
  const paths = [dataSocket(folders), acceptorControlSocket(folders)];
  const close = (): void => {
    for (const descriptor of descriptors) closeSync(descriptor);
    for (const path of paths) rmSync(path, { force: true });
  };
  try {
    const tcp = listenTcp(host, port);
    descriptors.push(tcp);
    for (const path of paths) descriptors.push(keepUnix(path));
    return { descriptors, names: "data-tcp:data-unix:control", dataPort: localPort(tcp), close };
  } catch (error) {
    for (const descriptor of descriptors) closeSync(descriptor);
    throw portError(error, { host, port, option: "--data-port" });
  }
}

function keepUnix(path: string): Descriptor {
  try {
    return listenUnix(path, 0o600);
  } catch (cause) {
    const sentence = cause instanceof Error ? cause.message : String(cause);
    throw new FarpoolError("FARPOOL_UNAVAILABLE", sentence, {
      hint: "another pool may use the same folder: FARPOOL_RUNTIME chooses one for sockets",
      cause,
    });
  }
}

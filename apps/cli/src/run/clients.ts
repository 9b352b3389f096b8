import { closeSync } from "node:fs";
import type { Socket } from "node:net";
import {
  peerCredentials,
  peerPidfd,
  processHasEnded,
  processStart,
  watchProcess,
  type PeerCredentials,
  type Watch,
} from "@farpool/os";

/** A process that asked the broker. Number and start name it for as long as the machine runs. */
export interface ClientProcess {
  readonly pid: number;
  readonly uid: number;
  /** Clock ticks since boot. */
  readonly start: number;
}

/**
 * `replaced`: the same process asked for another connection, after an exec or by a second `cuInit`. `left`: it lives,
 * and nobody is there for it any more.
 */
export type ConnectionEnd = "died" | "replaced" | "left";

/** A process has one to each server of its session. */
export interface ClientConnection {
  readonly id: string;
  /** The server's place among the session's. */
  readonly server: number;
}

export interface Clients {
  /** Who is at the other end of a connection to the broker; throws `ClientRefused`. */
  admit(socket: Socket): ClientProcess;
  /**
   * Calls `ended` once, when the process is dead, whoever still holds its sockets, or when it has been given
   * another connection to the same server. The same connection again (a renewal) only replaces `ended`.
   */
  onEnd(connection: ClientConnection, client: ClientProcess, ended: (why: ConnectionEnd) => void): void;
  /** Ends the connections of all who live. */
  leave(): void;
  /** Nothing is called any more. */
  close(): void;
}

/** Why a process gets no answer but this one; has the shape of the broker's refusals. */
export class ClientRefused extends Error {
  readonly exitCode = 77;
  readonly cudaError = "CUDA_ERROR_NOT_PERMITTED";

  constructor(sentence: string, cause?: unknown) {
    super(sentence, { cause });
    this.name = "ClientRefused";
  }

  get sentence(): string {
    return this.message;
  }
}

interface Known {
  readonly watch: Watch;
  /** By the server's place. */
  readonly connections: Map<number, { readonly id: string; readonly ended: (why: ConnectionEnd) => void }>;
}

function endAll({ connections }: Known, why: ConnectionEnd): void {
  const all = [...connections.values()];
  connections.clear();
  for (const { ended } of all) ended(why);
}

/** Throws at once when the add-on is missing, not when the first program asks. */
export function watchClients({
  owner = process.getuid?.() ?? 0,
  isOpenToOthers = () => false,
  refuse = (peer) => (isOpenToOthers() ? undefined : refuseOthers(peer, owner)),
}: {
  readonly owner?: number;
  readonly isOpenToOthers?: () => boolean;
  /** Why a process may not be let in; undefined: it may. */
  readonly refuse?: (peer: PeerCredentials) => string | undefined;
} = {}): Clients {
  processStart(process.pid);
  /** Processes that asked and live. */
  const known = new Map<string, Known>();

  return {
    admit(socket) {
      const peer = identify(socket);
      const refusal = refuse(peer);
      if (refusal !== undefined) throw new ClientRefused(refusal);
      if (peer.pid === 0) {
        throw new ClientRefused(
          "the process runs in a pid namespace that the broker does not see; 'farpool run' inside that container starts a broker there",
        );
      }
      const { start, watch } = follow(socket, peer.pid, (key) => {
        const entry = known.get(key);
        known.delete(key);
        if (entry !== undefined) endAll(entry, "died");
      });
      const client = { pid: peer.pid, uid: peer.uid, start };
      const key = keyOf(client);
      if (known.has(key)) watch.stop();
      else known.set(key, { watch, connections: new Map() });
      return client;
    },

    onEnd({ id, server }, client, ended) {
      const entry = known.get(keyOf(client));
      if (entry === undefined) {
        // It died between its question and the answer. The caller is not called back before it has returned.
        setImmediate(ended, "died");
        return;
      }
      const earlier = entry.connections.get(server);
      entry.connections.set(server, { id, ended });
      if (earlier !== undefined && earlier.id !== id) earlier.ended("replaced");
    },

    leave() {
      for (const entry of known.values()) endAll(entry, "left");
    },

    close() {
      for (const { watch } of known.values()) watch.stop();
      known.clear();
    },
  };
}

function refuseOthers({ pid, uid }: PeerCredentials, owner: number): string | undefined {
  if (uid === owner || uid === 0) return undefined;
  return `process ${pid} belongs to user ${uid}, the session to user ${owner}: only this user's processes and root's may use it`;
}

const keyOf = ({ pid, start }: Pick<ClientProcess, "pid" | "start">): string => `${pid} ${start}`;

function identify(socket: Socket): PeerCredentials {
  try {
    return peerCredentials(socket);
  } catch (cause) {
    throw new ClientRefused(`the broker cannot tell which process asks: ${String(cause)}`, cause);
  }
}

function follow(
  socket: Socket,
  pid: number,
  died: (key: string) => void,
): { readonly start: number; readonly watch: Watch } {
  let pidfd: number | undefined;
  try {
    pidfd = peerPidfd(socket);
    const start = processStart(pid);
    // It lives now, so the number was its own when the start was read.
    if (processHasEnded(pidfd)) throw new Error("it has ended");
    return { start, watch: watchProcess(pidfd, () => died(keyOf({ pid, start }))) };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ClientRefused(`process ${pid}, which asks, cannot be followed: ${why}`, cause);
  } finally {
    if (pidfd !== undefined) closeSync(pidfd);
  }
}

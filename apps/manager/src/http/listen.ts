import { chmodSync, existsSync, unlinkSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { connect, type Socket } from "node:net";
import { FarpoolError } from "@farpool/contract";
import { answerBrokenRequests } from "./broken-requests.ts";

export interface Listeners {
  /** Whether a connection came over the Unix socket. */
  isTrusted(socket: Socket): boolean;
  open(): Promise<void>;
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly socketPath: string;
  /** Null: the Unix socket only. */
  readonly tcp: { readonly host: string; readonly port: number } | null;
  readonly handler: RequestListener;
}

/** The two doors of the API. One handler serves both; only the socket's is trusted. */
export function createListeners({ socketPath, tcp, handler }: ListenOptions): Listeners {
  const trusted = new WeakSet<Socket>();
  const local = createServer(handler);
  local.on("connection", (socket) => trusted.add(socket));
  const remote = tcp === null ? null : createServer(handler);
  answerBrokenRequests(local);
  if (remote !== null) answerBrokenRequests(remote);

  return {
    isTrusted: (socket) => trusted.has(socket),
    async open() {
      if (remote !== null && tcp !== null) await listen(remote, tcp, `${tcp.host}:${tcp.port}`);
      await removeStale(socketPath);
      await listen(local, { path: socketPath }, socketPath);
      chmodSync(socketPath, 0o600);
    },
    async close() {
      await Promise.all([local, ...(remote === null ? [] : [remote])].map(stop));
    },
  };
}

function listen(
  server: Server,
  where: { path: string } | { host: string; port: number },
  place: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const taken = error.code === "EADDRINUSE";
      reject(
        taken
          ? new FarpoolError("FARPOOL_CONFLICT", `the address ${place} is taken by another program`, {
              hint: "--port chooses another port",
            })
          : error,
      );
    });
    server.listen(where, resolve);
  });
}

/** A socket whose manager was killed stays in the file system. */
async function removeStale(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => resolve(true));
    socket.once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
  if (answers) throw new FarpoolError("FARPOOL_ALREADY_RUNNING", `a manager already listens on ${path}`);
  unlinkSync(path);
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    // Long polls were woken; who does not read the answer has a second.
    setTimeout(() => server.closeAllConnections(), 1_000).unref();
  });
}

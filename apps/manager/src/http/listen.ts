import { chmodSync, existsSync, unlinkSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createSecureServer, type Server as SecureServer } from "node:https";
import { connect, type Socket } from "node:net";
import { FarpoolError } from "@farpool/contract";
import { answerBrokenRequests } from "./broken-requests.ts";
import type { ManagerCertificate } from "@farpool/identity/certificates";

/** Said with each certificate: a later one without it would let older versions in. */
const MIN_VERSION = "TLSv1.3";
/** Who connects and says nothing is sent away. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

export interface Listeners {
  /** Whether a connection came over the Unix socket. */
  isTrusted(socket: Socket): boolean;
  open(): Promise<void>;
  /** Later connections see this one. */
  present(certificate: ManagerCertificate): void;
  /** Nobody new is let in; requests that are under way have so long to end. */
  close(patienceMs: number): Promise<void>;
}

export interface ListenOptions {
  readonly socketPath: string;
  /** Null: the Unix socket only. */
  readonly tcp: {
    readonly host: string;
    readonly port: number;
    readonly certificate: ManagerCertificate;
    /** PEM: whose certificates machines show, at the moment. */
    readonly authority: () => string;
  } | null;
  readonly handler: RequestListener;
}

/** The two doors of the API: a Unix socket, which is trusted, and HTTPS. One handler serves both. */
export function createListeners({ socketPath, tcp, handler }: ListenOptions): Listeners {
  const trusted = new WeakSet<Socket>();
  const local = createServer(handler);
  local.on("connection", (socket) => trusted.add(socket));
  const remote = tcp === null ? null : secureServer(tcp.certificate, tcp.authority(), handler);
  answerBrokenRequests(local);
  if (remote !== null) answerBrokenRequests(remote);

  return {
    isTrusted: (socket) => trusted.has(socket),
    async open() {
      if (remote !== null && tcp !== null)
        await listen(remote, { host: tcp.host, port: tcp.port }, `${tcp.host}:${tcp.port}`);
      await removeStale(socketPath);
      await listen(local, { path: socketPath }, socketPath);
      chmodSync(socketPath, 0o600);
    },
    present({ chain, privateKey }) {
      remote?.setSecureContext({
        cert: chain,
        key: privateKey,
        ca: tcp?.authority(),
        minVersion: MIN_VERSION,
      });
    },
    async close(patienceMs) {
      const servers = [local, ...(remote === null ? [] : [remote])];
      await Promise.all(servers.map((server) => stop(server, patienceMs)));
    },
  };
}

/**
 * A certificate is asked for and not insisted on: who joins has none yet, people have none at all, and one that
 * has expired is good for its renewal. What it is worth, `access.ts` decides.
 */
function secureServer(
  { chain, privateKey }: ManagerCertificate,
  authority: string,
  handler: RequestListener,
): SecureServer {
  return createSecureServer(
    {
      cert: chain,
      key: privateKey,
      ca: authority,
      requestCert: true,
      rejectUnauthorized: false,
      minVersion: MIN_VERSION,
      handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
    },
    handler,
  );
}

function listen(
  server: Server | SecureServer,
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

function stop(server: Server | SecureServer, patienceMs: number): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    // A connection that was busy is idle when its answer is out.
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    const impatient = setTimeout(() => server.closeAllConnections(), patienceMs);
    server.once("close", () => {
      clearInterval(idle);
      clearTimeout(impatient);
    });
  });
}

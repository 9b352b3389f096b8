import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ConnectionId, SessionGpus } from "@farpool/contract";
import type { AdmissionOptions } from "./admission.ts";
import { formatRefusal, RefusedError, type Refusal } from "./answer.ts";
import { ClientRefused, watchClients } from "./clients.ts";
import { sendEndNotice } from "./end-notice.ts";
import { createGpuFacts } from "./gpu-facts.ts";

export const PROTOCOL = "farpool-broker 2";
const MAX_REQUEST_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;
const MAX_SOCKET_PATH = 107;
/** So long a server that does not answer is told of ends when the broker leaves. */
const LEAVE_TIMEOUT_MS = 5_000;

export interface Broker {
  /** What `FARPOOL_SESSION` names. */
  readonly path: string;
  /** Client processes that were let in, each once. */
  readonly admitted: ReadonlyArray<{ readonly pid: number; readonly program: string }>;
  /** How many connections they were given: one to each server. */
  connectionCount(): number;
  /** Whether a process asked what the GPUs are and do. */
  wasLookedAt(): boolean;
  /** From now on every process is told why it gets no GPU. */
  refuse(refusal: Refusal): void;
  close(): void;
  /** Closes, but the session goes on: its server knows of no process any more that this broker has let in. */
  leave(): Promise<void>;
}

export interface BrokerOptions extends AdmissionOptions {
  /** Asks the manager what the session's GPUs are and do. */
  readonly readGpus: () => Promise<SessionGpus>;
  /** Where its private folder is made. */
  readonly folder: string;
  /** Whether other users' processes may use the session, too, asked each time. Left out: never. */
  readonly isOpenToOthers?: (() => boolean) | undefined;
}

/**
 * Serves the shims of one session (ARCHITECTURE 4.4). Its socket lies in a folder of mode 0700 with a
 * name nobody can guess: whoever can open it is one of the owner's processes, unless others may, too.
 */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const { isOpenToOthers } = options;
  const own = privateFolder(options.folder, isOpenToOthers !== undefined);
  const path = join(own, "broker.sock");
  // Loaded while the program starts: what signs takes a while to load, and most of a program's start is its own.
  const loading = import("./admission.ts").then(({ createAdmissions }) => createAdmissions(options));
  // Whoever asks is told.
  loading.catch(() => undefined);
  const stop = (): void => void loading.then((admissions) => admissions.stop()).catch(() => undefined);
  const admitted: Array<{ pid: number; program: string }> = [];
  /** A process has one for all of its servers. */
  const keys = new Set<string>();
  let connectionCount = 0;
  const clients = watchClients(isOpenToOthers === undefined ? {} : { isOpenToOthers });
  const closing = new AbortController();
  const endings = new Set<Promise<void>>();
  const gpuFacts = createGpuFacts(options.readGpus);
  let lookedAt = false;
  let refusal: Refusal | undefined;

  async function answer(text: string, socket: Socket): Promise<string> {
    const request = parseRequest(text);
    try {
      const lines = await linesFor(request, socket);
      return ["ok", ...lines, "", ""].join("\n");
    } catch (error) {
      if (error instanceof RefusedError) return formatRefusal(error.refusal);
      if (error instanceof ClientRefused) return formatRefusal(error);
      const why = error instanceof Error ? error.message : String(error);
      const sentence = `the broker failed: ${why}`;
      return formatRefusal({ exitCode: 70, cudaError: "CUDA_ERROR_SYSTEM_NOT_READY", sentence });
    }
  }

  async function linesFor(request: Request, socket: Socket): Promise<readonly string[]> {
    if (request.protocol !== PROTOCOL) throw otherVersion(request.protocol);
    if (refusal !== undefined) throw new RefusedError(refusal);
    const peer = clients.admit(socket);
    if (request.want === "gpus") {
      lookedAt = true;
      return [`session ${options.sessionId}`, ...(await gpuFacts.lines())];
    }
    const { connectionId, server, lines } = await (await loading).admit({ ...request, peer });
    // Since then: nobody would end its connection.
    if (refusal !== undefined) throw new RefusedError(refusal);
    if (request.connection === null) count(peer.pid, request);
    clients.onEnd({ id: connectionId, server }, peer, () => {
      const ending = endConnection(connectionId).finally(() => endings.delete(ending));
      endings.add(ending);
    });
    return lines;
  }

  function count(pid: number, { key, program }: Request): void {
    connectionCount += 1;
    if (keys.has(key)) return;
    keys.add(key);
    admitted.push({ pid, program });
  }

  /** A worker whose client process is dead would wait for it to come back, and keep its GPU memory meanwhile. */
  async function endConnection(connectionId: ConnectionId): Promise<void> {
    const { sessionId } = options;
    const connection = (await loading).forget(connectionId);
    if (connection === undefined) return;
    const graceMs = options.connection.graceSeconds * 1_000;
    await sendEndNotice({ sessionId, connectionId, connection, graceMs, signal: closing.signal });
  }

  const server = createServer((socket) => receive(socket, answer));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  // Whoever asks is told whether it may.
  if (isOpenToOthers !== undefined) chmodSync(path, 0o666);
  const close = (): void => {
    stop();
    // Its server ends all of them with the session.
    closing.abort();
    clients.close();
    server.close();
    rmSync(own, { recursive: true, force: true });
  };
  return {
    path,
    admitted,
    connectionCount: () => connectionCount,
    wasLookedAt: () => lookedAt,
    refuse(next) {
      refusal = next;
      stop();
    },
    close,
    async leave() {
      refusal ??= LEFT;
      clients.leave();
      const timer = setTimeout(() => closing.abort(), LEAVE_TIMEOUT_MS);
      await Promise.all(endings);
      clearTimeout(timer);
      close();
    },
  };
}

const LEFT: Refusal = {
  exitCode: 69,
  cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE",
  sentence: "the command that attached this process to its session has ended",
};

export function otherVersion(protocol: string): RefusedError {
  return new RefusedError({
    exitCode: 69,
    cudaError: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    sentence: `the broker speaks '${PROTOCOL}', the program's libcuda.so.1 said '${protocol.slice(0, 40)}': they are of different versions`,
  });
}

export interface Request {
  readonly protocol: string;
  readonly pid: number;
  readonly program: string;
  readonly key: string;
  readonly connection: string | null;
  readonly server: string | null;
  /** What else than a way into the session is asked for: `devices`, `gpus`, `status`, `logs`. */
  readonly want: string | null;
}

export function parseRequest(text: string): Request {
  const [protocol = "", ...lines] = text.split("\n");
  const field = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1);
  const pid = field("pid") ?? "";
  return {
    protocol,
    pid: /^\d{1,10}$/.test(pid) ? Number(pid) : 0,
    // Shown on other people's terminals, some of whose characters are orders.
    program: (field("program") ?? "").replaceAll(/\p{Cc}+/gu, " "),
    key: field("key") ?? "",
    connection: field("connection") ?? null,
    server: field("server") ?? null,
    want: field("want") ?? null,
  };
}

export function receive(socket: Socket, answer: (request: string, socket: Socket) => Promise<string>): void {
  let text = "";
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    text += chunk.toString("utf8");
    const end = text.indexOf("\n\n");
    if (end >= 0) {
      socket.removeAllListeners("data");
      socket.resume();
      void answer(text.slice(0, end), socket).then((lines) => socket.end(lines));
    } else if (text.length > MAX_REQUEST_BYTES) socket.destroy();
  });
}

/** `isPassable`: those who know its name may open what is in it. */
function privateFolder(folder: string, isPassable: boolean): string {
  const name = `run-${process.pid}-${randomBytes(6).toString("hex")}`;
  // A socket's path has 107 bytes at most, and this user may not be allowed to write to the pool's folder.
  const places = [
    ...(isPassable ? [] : [folder, join(tmpdir(), `farpool-${process.getuid?.() ?? 0}`)]),
    "/tmp",
  ];
  let failure: unknown;
  for (const place of places) {
    const own = join(place, name);
    if (Buffer.byteLength(join(own, "broker.sock")) > MAX_SOCKET_PATH) continue;
    try {
      mkdirSync(place, { recursive: true, mode: 0o700 });
      mkdirSync(own, { mode: isPassable ? 0o711 : 0o700 });
      return own;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`no folder for the broker's socket could be made in ${places.join(", ")}`, {
    cause: failure,
  });
}

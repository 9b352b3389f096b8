import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AdmissionOptions, Admissions } from "./admission.ts";
import { formatEndpoint, formatRefusal, RefusedError, type Refusal } from "./answer.ts";
import { peerOf } from "./peer.ts";

const PROTOCOL = "farpool-broker 2";
/** For shims that know no grants; their servers ask for none. */
const OLD_PROTOCOL = "farpool-broker 1";
const MAX_REQUEST_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;
const MAX_SOCKET_PATH = 107;

export interface Broker {
  /** What `FARPOOL_SESSION` names. */
  readonly path: string;
  /** Client processes that were let in. */
  readonly admitted: ReadonlyArray<{ readonly pid: number; readonly program: string }>;
  /** From now on every process is told why it gets no GPU. */
  refuse(refusal: Refusal): void;
  close(): void;
}

export interface BrokerOptions extends AdmissionOptions {
  /** Where its private folder is made. */
  readonly folder: string;
}

/**
 * Serves the shims of one session (ARCHITECTURE 4.4). Its socket lies in a folder of mode 0700 with a
 * name nobody can guess: whoever can open it is one of the owner's processes.
 */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const own = privateFolder(options.folder);
  const path = join(own, "broker.sock");
  // Loaded while the program starts: what signs takes a while to load, and most of a program's start is its own.
  const loading = import("./admission.ts").then(({ createAdmissions }) => createAdmissions(options));
  // Whoever asks is told.
  loading.catch(() => undefined);
  const stop = (): void => void loading.then((admissions) => admissions.stop()).catch(() => undefined);
  const admitted: Array<{ pid: number; program: string }> = [];
  let refusal: Refusal | undefined;

  async function answer(text: string, socket: Socket): Promise<string> {
    const request = parseRequest(text);
    try {
      const lines = await linesFor(request, socket);
      if (request.connection === null) admitted.push({ pid: request.pid, program: request.program });
      return ["ok", ...lines, "", ""].join("\n");
    } catch (error) {
      if (error instanceof RefusedError) return formatRefusal(error.refusal);
      const why = error instanceof Error ? error.message : String(error);
      const sentence = `the broker failed: ${why}`;
      return formatRefusal({ exitCode: 70, cudaError: "CUDA_ERROR_SYSTEM_NOT_READY", sentence });
    }
  }

  async function linesFor(request: Request, socket: Socket): Promise<string[]> {
    if (request.protocol !== PROTOCOL && request.protocol !== OLD_PROTOCOL)
      throw otherVersion(request.protocol);
    if (refusal !== undefined) throw new RefusedError(refusal);
    return request.protocol === OLD_PROTOCOL ? oldLines(options) : newLines(await loading, request, socket);
  }

  const server = createServer((socket) => receive(socket, answer));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  return {
    path,
    admitted,
    refuse(next) {
      refusal = next;
      stop();
    },
    close() {
      stop();
      server.close();
      rmSync(own, { recursive: true, force: true });
    },
  };
}

function newLines(admissions: Admissions, request: Request, socket: Socket): Promise<string[]> {
  const peer = peerOf(socket, request.pid);
  if (peer === undefined) {
    throw new RefusedError({
      exitCode: 77,
      cudaError: "CUDA_ERROR_NOT_PERMITTED",
      sentence: `there is no process ${request.pid} of this user, so it is not let into the session`,
    });
  }
  return admissions.admit({ ...request, peer });
}

function oldLines({ sessionId, connection }: BrokerOptions): string[] {
  // It knows no other kinds.
  const endpoints = connection.endpoints.filter(({ kind }) => kind === "unix" || kind === "tcp");
  if (endpoints.length === 0) throw otherVersion(OLD_PROTOCOL);
  return [`session ${sessionId}`, `secret ${connection.secret}`, ...endpoints.map(formatEndpoint)];
}

function otherVersion(protocol: string): RefusedError {
  return new RefusedError({
    exitCode: 69,
    cudaError: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    sentence: `the broker speaks '${PROTOCOL}', the program's libcuda.so.1 said '${protocol.slice(0, 40)}': they are of different versions`,
  });
}

interface Request {
  readonly protocol: string;
  readonly pid: number;
  readonly program: string;
  readonly key: string;
  readonly connection: string | null;
}

function parseRequest(text: string): Request {
  const [protocol = "", ...lines] = text.split("\n");
  const field = (name: string): string | undefined =>
    lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1);
  const pid = field("pid") ?? "";
  return {
    protocol,
    pid: /^\d{1,10}$/.test(pid) ? Number(pid) : 0,
    program: field("program") ?? "",
    key: field("key") ?? "",
    connection: field("connection") ?? null,
  };
}

function receive(socket: Socket, answer: (request: string, socket: Socket) => Promise<string>): void {
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

function privateFolder(folder: string): string {
  const name = `run-${process.pid}-${randomBytes(6).toString("hex")}`;
  // A socket's path has 107 bytes at most, and this user may not be allowed to write to the pool's folder.
  const places = [folder, join(tmpdir(), `farpool-${process.getuid?.() ?? 0}`), "/tmp"];
  let failure: unknown;
  for (const place of places) {
    const own = join(place, name);
    if (Buffer.byteLength(join(own, "broker.sock")) > MAX_SOCKET_PATH) continue;
    try {
      mkdirSync(place, { recursive: true, mode: 0o700 });
      mkdirSync(own, { mode: 0o700 });
      return own;
    } catch (error) {
      failure = error;
    }
  }
  throw new Error(`no folder for the broker's socket could be made in ${places.join(", ")}`, {
    cause: failure,
  });
}

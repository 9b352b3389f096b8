import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Endpoint, SessionConnection, SessionId } from "@farpool/contract";

const PROTOCOL = "farpool-broker 1";
const MAX_REQUEST_BYTES = 8 * 1024;
const REQUEST_TIMEOUT_MS = 5_000;
const MAX_SOCKET_PATH = 107;

export interface Refusal {
  readonly exitCode: number;
  readonly cudaError: string;
  readonly sentence: string;
}

export interface Broker {
  /** What `FARPOOL_SESSION` names. */
  readonly path: string;
  /** Client processes that were let in. */
  readonly admitted: ReadonlyArray<{ readonly pid: number; readonly program: string }>;
  /** From now on every process is told why it gets no GPU. */
  refuse(refusal: Refusal): void;
  close(): void;
}

export interface BrokerOptions {
  readonly sessionId: SessionId;
  readonly connection: SessionConnection;
  /** Where its private folder is made. */
  readonly folder: string;
}

/**
 * Serves the shims of one session (ARCHITECTURE 4.4). Its socket lies in a folder of mode 0700 with a
 * name nobody can guess: whoever can open it is one of the owner's processes.
 */
export async function startBroker({ sessionId, connection, folder }: BrokerOptions): Promise<Broker> {
  const own = privateFolder(folder);
  const path = join(own, "broker.sock");
  const admitted: Array<{ pid: number; program: string }> = [];
  let refusal: Refusal | undefined;

  function answer(request: string): string {
    const [protocol, ...lines] = request.split("\n");
    if (protocol !== PROTOCOL) {
      return formatRefusal({
        exitCode: 69,
        cudaError: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        sentence: `the broker speaks '${PROTOCOL}', the program's libcuda.so.1 said '${String(protocol).slice(0, 40)}': they are of different versions`,
      });
    }
    if (refusal !== undefined) return formatRefusal(refusal);
    const field = (name: string): string | undefined =>
      lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1);
    admitted.push({ pid: Number(field("pid") ?? 0), program: field("program") ?? "" });
    return [
      "ok",
      `session ${sessionId}`,
      `secret ${connection.secret}`,
      ...connection.endpoints.map(formatEndpoint),
      "",
      "",
    ].join("\n");
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
    },
    close() {
      server.close();
      rmSync(own, { recursive: true, force: true });
    },
  };
}

function receive(socket: Socket, answer: (request: string) => string): void {
  let text = "";
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    text += chunk.toString("utf8");
    const end = text.indexOf("\n\n");
    if (end >= 0) socket.end(answer(text.slice(0, end)));
    else if (text.length > MAX_REQUEST_BYTES) socket.destroy();
  });
}

function formatEndpoint(endpoint: Endpoint): string {
  if (endpoint.kind === "unix") return `endpoint unix ${endpoint.path}`;
  const host = endpoint.host.includes(":") ? `[${endpoint.host}]` : endpoint.host;
  return `endpoint tcp ${host}:${endpoint.port}`;
}

function formatRefusal({ exitCode, cudaError, sentence }: Refusal): string {
  return `error ${exitCode} ${cudaError} ${sentence.replaceAll("\n", " ")}\n`;
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

import { createHmac } from "node:crypto";
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

/**
 * A stand-in for `farpool-acceptor` in tests of the control plane: the same command line and the same
 * control protocol (ARCHITECTURE 4.5), but no workers. A data connection counts as one from its preface
 * to its end.
 */
const { values } = parseArgs({
  options: {
    control: { type: "string" },
    worker: { type: "string" },
    driver: { type: "string" },
    listen: { type: "string" },
    unix: { type: "string" },
    "server-name": { type: "string" },
    "worker-identity": { type: "string" },
    "plain-tcp": { type: "boolean" },
  },
});
const PREFACE_BYTES = 96;

interface FakeWorker {
  readonly pid: number;
  readonly connectionId: string;
  readonly clientPid: number;
  readonly program: string;
  readonly startedAt: string;
  readonly socket: Socket;
}
interface FakeSession {
  readonly id: string;
  readonly secret: string;
  readonly gpus: readonly { uuid: string }[];
}
interface Request {
  readonly id: number;
  readonly op: string;
  readonly session?: FakeSession;
  readonly sessionId?: string;
}

const sessions = new Map<string, { session: FakeSession; workers: FakeWorker[] }>();
const subscribers = new Set<Socket>();
let port = 0;

function view({ socket: _, ...worker }: FakeWorker, gpus: FakeSession["gpus"]): object {
  const report = {
    calls: 100,
    roundTrips: 10,
    localCalls: 50,
    bytesReceived: 4096,
    bytesSent: 1024,
    kernelLaunches: 7,
    busyMs: 5,
    memoryPeakBytes: 1 << 20,
    perGpu: gpus.map(({ uuid }) => ({ uuid, memoryUsedBytes: 1 << 20 })),
  };
  return { ...worker, report };
}

function announce(event: string, sessionId: string, worker: object): void {
  for (const socket of subscribers) socket.write(`${JSON.stringify({ event, sessionId, worker })}\n`);
}

function answer(request: Request, socket: Socket): object {
  switch (request.op) {
    case "hello":
      return { version: 1, pid: process.pid, port, unixPath: values.unix ?? null };
    case "subscribe":
      subscribers.add(socket);
      return {};
    case "openSession":
      if (request.session !== undefined && !sessions.has(request.session.id)) {
        sessions.set(request.session.id, { session: request.session, workers: [] });
      }
      return {};
    case "closeSession": {
      for (const worker of sessions.get(request.sessionId ?? "")?.workers ?? []) worker.socket.destroy();
      sessions.delete(request.sessionId ?? "");
      return {};
    }
    case "status":
      return {
        sessions: [...sessions.values()].map(({ session, workers }) => ({
          id: session.id,
          gpus: session.gpus,
          workers: workers.map((worker) => view(worker, session.gpus)),
        })),
      };
    default:
      return { error: { code: "unknownOp", message: `there is no op ${request.op}` } };
  }
}

/** As native/transport/src/token.rs makes it. */
function routingToken(secret: string, connectionId: Buffer): Buffer {
  return createHmac("sha256", Buffer.from(secret, "hex"))
    .update("farpool route")
    .update(connectionId)
    .digest();
}

function serveData(socket: Socket): void {
  let preface = Buffer.alloc(0);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    if (preface.length >= PREFACE_BYTES) return;
    preface = Buffer.concat([preface, chunk]);
    if (preface.length < PREFACE_BYTES) return;
    const id = preface.subarray(16, 48).toString("utf8").replaceAll("\0", "");
    const open = sessions.get(id);
    const isProved =
      open !== undefined &&
      routingToken(open.session.secret, preface.subarray(48, 64)).equals(preface.subarray(64));
    if (open === undefined || !isProved) {
      const connectionId = preface.subarray(48, 64).toString("hex");
      const reason = open === undefined ? `there is no session ${id}` : "the token is not one of the session";
      const refused = { event: "refused", sessionId: id, connectionId, peer: "fake", reason, at: Date.now() };
      for (const subscriber of subscribers) subscriber.write(`${JSON.stringify(refused)}\n`);
      socket.destroy();
      return;
    }
    const worker: FakeWorker = {
      pid: process.pid,
      connectionId: preface.subarray(48, 64).toString("hex"),
      clientPid: 4711,
      program: "fake",
      startedAt: new Date().toISOString(),
      socket,
    };
    open.workers.push(worker);
    announce("workerStarted", id, view(worker, open.session.gpus));
    socket.once("close", () => {
      open.workers.splice(open.workers.indexOf(worker), 1);
      announce("workerEnded", id, {
        ...view(worker, open.session.gpus),
        endedAt: new Date().toISOString(),
        exit: { code: 0 },
      });
    });
  });
}

const control = createServer((socket) => {
  socket.on("error", () => socket.destroy());
  socket.once("close", () => subscribers.delete(socket));
  createInterface({ input: socket }).on("line", (line) => {
    const request: Request = JSON.parse(line);
    socket.write(`${JSON.stringify({ id: request.id, ok: true, ...answer(request, socket) })}\n`);
  });
});

/** Where a socket listens already, by the name that `farpool up` gives it. */
function kept(name: string): { readonly fd: number } | undefined {
  const place = (process.env["FARPOOL_LISTEN_FDS"] ?? "").split(":").indexOf(name);
  return place === -1 ? undefined : { fd: 3 + place };
}

function listenUnix(server: Server, name: string, path: string | undefined): void {
  const socket = kept(name);
  if (socket !== undefined) server.listen(socket);
  else if (path !== undefined) {
    rmSync(path, { force: true });
    server.listen(path);
  }
}

const [host = "127.0.0.1", wanted = "0"] = (values.listen ?? "").split(":");
const data = createServer(serveData);
data.listen(kept("data-tcp") ?? { port: Number(wanted), host }, () => {
  const address = data.address();
  port = typeof address === "object" && address !== null ? address.port : 0;
  listenUnix(createServer(serveData), "data-unix", values.unix);
  listenUnix(control, "control", values.control);
});
process.once("SIGTERM", () => process.exit(0));

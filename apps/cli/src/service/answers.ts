import type { Socket } from "node:net";
import { COMMAND_NAME, VERSION } from "@farpool/contract";
import { peerCredentials } from "@farpool/os";
import { formatRefusal, RefusedError } from "../run/answer.ts";
import { otherVersion, parseRequest, PROTOCOL, type Request } from "../run/broker.ts";
import { ClientRefused, type Clients } from "../run/clients.ts";
import { gpuLines } from "../run/gpu-facts.ts";
import type { Holding } from "./holding.ts";
import { offeredGpus } from "./identity.ts";
import type { ServiceLog } from "./log.ts";
import type { Members } from "./members.ts";
import { NotHeld } from "./not-held.ts";
import type { GpuIdentity } from "./state-file.ts";

/** A shim takes a service for dead that says nothing for longer. */
const STILL_WAITING_MS = 2_000;
const LOG_LINES = 500;
const SERVICE_LINE = `service ${COMMAND_NAME} ${VERSION}`;

export interface AnswerParts {
  readonly holding: Holding;
  readonly clients: Clients;
  readonly members: Members;
  readonly log: ServiceLog;
  /** What programs are told of the GPUs; rejects when nobody knows any. */
  readonly identity: () => Promise<GpuIdentity>;
  /** What `service status` prints. */
  readonly status: () => object;
  /** Whether a connection is of the session that the service before this one left, which is not found again yet. */
  readonly isLeft: (connection: string | null) => boolean;
  /** Who is in the session is another set now. */
  readonly processesChanged: () => void;
}

/** Answers one request to the service's socket (ARCHITECTURE 4.15): of shims, and of the command line. */
export function createAnswers(parts: AnswerParts): (text: string, socket: Socket) => Promise<string> {
  const { clients, members, log } = parts;

  async function linesFor(request: Request, socket: Socket): Promise<readonly string[]> {
    if (request.protocol !== PROTOCOL) throw otherVersion(request.protocol);
    await members.refresh();
    switch (request.want) {
      case "status":
        return [`json ${JSON.stringify({ ...parts.status(), you: you(socket) })}`];
      case "logs":
        requireMember(socket);
        return log.last(LOG_LINES).map((line) => `log ${line}`);
      case "devices":
        requireMember(socket);
        return deviceLines(await parts.identity());
      case "gpus":
        requireMember(socket);
        return factLines();
      case null:
        return letIn(request, socket);
      default:
        throw otherVersion(`want ${request.want}`);
    }
  }

  /** Of a session what its GPUs are and do; without one what they will be, which takes none. */
  async function factLines(): Promise<readonly string[]> {
    const { held } = parts.holding;
    if (held === undefined) return [SERVICE_LINE, ...gpuLines(offeredGpus(await parts.identity()))];
    return [`session ${held.handle.session.id}`, ...(await held.gpuFacts.lines())];
  }

  function requireMember(socket: Socket): void {
    const refusal = members.refuse(peerCredentials(socket));
    if (refusal !== undefined) throw new ClientRefused(refusal);
  }

  function you(socket: Socket): { readonly uid: number; readonly refusal: string | null } {
    const peer = peerCredentials(socket);
    return { uid: peer.uid, refusal: members.refuse(peer) ?? null };
  }

  /**
   * A resume is for the session that the process was in. A service that has just started finds that one again, which is
   * waited for; no other one is.
   */
  async function letIn(request: Request, socket: Socket): Promise<readonly string[]> {
    const peer = clients.admit(socket);
    const { holding } = parts;
    const isNew = request.connection === null;
    const mayWait = isNew || parts.isLeft(request.connection);
    const held = mayWait ? await waited(socket, holding) : holding.held;
    if (held === undefined)
      throw new RefusedError({
        exitCode: 69,
        cudaError: "CUDA_ERROR_DEVICE_UNAVAILABLE",
        sentence: `the session of this process has ended: ${holding.sentence}`,
      });
    try {
      const { connectionId, server, lines } = await held.admissions.admit({ ...request, peer });
      clients.onEnd({ id: connectionId, server }, peer, () => held.forget(connectionId));
      if (isNew && server === 0)
        log.write(
          `session ${held.handle.session.id}: process ${peer.pid} (${request.program}) of user ${peer.uid} has come`,
        );
      return lines;
    } finally {
      parts.processesChanged();
    }
  }

  return async (text, socket) => {
    // The request is here; how long the answer takes is not the program's fault.
    socket.setTimeout(0);
    try {
      const lines = await linesFor(parseRequest(text), socket);
      return ["ok", ...lines, "", ""].join("\n");
    } catch (error) {
      if (error instanceof RefusedError || error instanceof NotHeld) return formatRefusal(error.refusal);
      if (error instanceof ClientRefused) {
        log.write(`refused: ${error.sentence}`);
        return formatRefusal(error);
      }
      const why = error instanceof Error ? error.message : String(error);
      log.write(`an answer failed: ${why}`);
      return formatRefusal({ exitCode: 69, cudaError: "CUDA_ERROR_NO_DEVICE", sentence: why });
    }
  };
}

/** The program's user is told what she waits for, and who hangs up waits no longer. */
async function waited(socket: Socket, holding: Holding): ReturnType<Holding["need"]> {
  const gone = new AbortController();
  const hungUp = (): void => gone.abort();
  socket.once("close", hungUp);
  let sentence = "";
  const write = (): void => {
    if (sentence !== "" && socket.writable) socket.write(`wait ${sentence}\n`);
  };
  const timer = setInterval(write, STILL_WAITING_MS);
  try {
    return await holding.need(gone.signal, (next) => {
      sentence = next.replaceAll("\n", " ");
      write();
    });
  } finally {
    clearInterval(timer);
    socket.off("close", hungUp);
  }
}

function deviceLines({
  driverVersion,
  memoryBytes,
  model,
  attributes,
  gpus,
}: GpuIdentity): readonly string[] {
  const [major = 0, minor = 0] = driverVersion.split(".").map(Number);
  return [
    SERVICE_LINE,
    `driver ${major * 1_000 + minor * 10}`,
    `attributes ${attributes.map(([number, value]) => `${number}=${value}`).join(" ")}`,
    ...gpus.map(({ uuid, pciBusId }) => `device ${uuid} ${memoryBytes} ${pciBusId} ${model}`),
  ];
}

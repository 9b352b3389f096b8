import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionId, Endpoint, SessionConnection, SessionId } from "@farpool/contract";
import { endToken } from "@farpool/identity";

// native/wire/src/preface.rs and record.rs.
const MAGIC = "FARPOOL1";
const WIRE_FORMAT = 1;
const PREFACE_BYTES = 96;
const FLAG_END = 4;
// native/transport/src/lane/packet.rs.
const PACKET_HEAD_BYTES = 8;
const PACKET_REFUSED = 8;
const CUDA_ERROR_SYSTEM_NOT_READY = 802;

const ANSWER_TIMEOUT_MS = 5_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** More than the longest refusal. */
const MAX_ANSWER_BYTES = 64 * 1024;

export interface EndNotice {
  readonly sessionId: SessionId;
  readonly connectionId: ConnectionId;
  readonly connection: Pick<SessionConnection, "secret" | "endpoints">;
  /** How long an acceptor that is away is waited for; a worker without a client ends after that time by itself. */
  readonly graceMs: number;
  readonly signal?: AbortSignal;
}

export type EndOutcome =
  /** The worker has been told. */
  | { readonly kind: "told" }
  /** There is no such worker, or no such session any more. */
  | { readonly kind: "refused"; readonly reason: string }
  /** Nobody answered in time; `reason` is what happened last. */
  | { readonly kind: "unanswered"; readonly reason: string };

type Answer = EndOutcome | { readonly kind: "later"; readonly reason: string };

/**
 * Tells a session's server that a client process is dead, so that its worker ends now and not when its
 * connection is seen to be broken: a forked child may hold that open for ever. Never rejects, and does not
 * keep Node alive between two attempts.
 */
export async function sendEndNotice(notice: EndNotice): Promise<EndOutcome> {
  const preface = endPreface(notice);
  const deadline = performance.now() + notice.graceMs;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    if (notice.signal?.aborted === true) return { kind: "unanswered", reason: "it was given up" };
    let reason = "the session has no endpoint";
    for (const endpoint of notice.connection.endpoints) {
      const answer = await ask(endpoint, preface, notice.signal);
      if (answer.kind === "told" || answer.kind === "refused") return answer;
      ({ reason } = answer);
    }
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) return { kind: "unanswered", reason };
    const { signal } = notice;
    await sleep(Math.min(pauseMs, leftMs), undefined, signal ? { ref: false, signal } : { ref: false }).catch(
      () => undefined,
    );
    pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
  }
}

/** The 96 bytes: nothing follows them. */
export function endPreface({
  sessionId,
  connectionId,
  connection,
}: Pick<EndNotice, "sessionId" | "connectionId" | "connection">): Buffer {
  const id = Buffer.from(connectionId, "hex");
  const preface = Buffer.alloc(PREFACE_BYTES);
  preface.write(MAGIC, 0);
  preface.writeUInt32LE(WIRE_FORMAT, 8);
  preface.writeUInt32LE(FLAG_END, 12);
  preface.write(sessionId, 16, 32);
  id.copy(preface, 48);
  endToken(connection.secret, connectionId).copy(preface, 64);
  return preface;
}

function ask(endpoint: Endpoint, preface: Buffer, signal: AbortSignal | undefined): Promise<Answer> {
  return new Promise((resolve) => {
    const name = endpoint.kind === "unix" ? endpoint.path : `${endpoint.host}:${endpoint.port}`;
    // The notice is not encrypted on any kind of endpoint: its token ends one connection and says nothing else.
    const socket: Socket =
      endpoint.kind === "unix" ? connect(endpoint.path) : connect(endpoint.port, endpoint.host);
    let received = Buffer.alloc(0);
    const finish = (answer: Answer): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
      socket.destroy();
      resolve(answer);
    };
    const giveUp = (): void => finish({ kind: "unanswered", reason: "it was given up" });
    const timer = setTimeout(
      () => finish({ kind: "later", reason: `${name} did not answer within ${ANSWER_TIMEOUT_MS / 1000} s` }),
      ANSWER_TIMEOUT_MS,
    );
    signal?.addEventListener("abort", giveUp, { once: true });
    if (signal?.aborted === true) giveUp();
    socket.once("connect", () => socket.write(preface));
    socket.on("data", (data) => {
      received = Buffer.concat([received, data]);
      const answer = parseAnswer(received);
      if (answer !== undefined) finish(answer);
      else if (received.length > MAX_ANSWER_BYTES)
        finish({ kind: "refused", reason: `${name} does not speak Farpool's protocol` });
    });
    socket.once("error", (error) => finish({ kind: "later", reason: `${name}: ${error.message}` }));
    // Also a refusal whose end is missing.
    socket.once("close", () =>
      finish({ kind: "later", reason: `${name} closed the connection without an answer` }),
    );
  });
}

/** The byte 1, or the one packet of a refusal; undefined while it is not complete. */
function parseAnswer(received: Buffer): Answer | undefined {
  if (received[0] === 1) return { kind: "told" };
  if (received.length < PACKET_HEAD_BYTES) return undefined;
  const length = received.readUInt32LE(4);
  if (received.readUInt32LE(0) !== PACKET_REFUSED || length < 4 || length > MAX_ANSWER_BYTES) {
    return { kind: "refused", reason: "what answers does not speak Farpool's protocol" };
  }
  if (received.length < PACKET_HEAD_BYTES + length) return undefined;
  const words = received.subarray(PACKET_HEAD_BYTES, PACKET_HEAD_BYTES + length);
  const kind = words.readInt32LE(0) === CUDA_ERROR_SYSTEM_NOT_READY ? "later" : "refused";
  return { kind, reason: words.subarray(4).toString("utf8") };
}

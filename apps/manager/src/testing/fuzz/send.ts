import { connect } from "node:net";
import type { FuzzRequest } from "./requests.ts";

export interface FuzzAnswer {
  /** Undefined: nothing came before the connection ended, or in the time that a request has. */
  readonly status: number | undefined;
  readonly body: string;
  readonly isTimedOut: boolean;
}

/** Sends bytes as they are and reads what comes back until the other side is done. */
export function send(socketPath: string, request: FuzzRequest, timeoutMs: number): Promise<FuzzAnswer> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = connect({ path: socketPath, allowHalfOpen: true });
    const finish = (isTimedOut: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ ...parse(Buffer.concat(chunks)), isTimedOut });
    };
    const timer = setTimeout(() => finish(true), timeoutMs);
    socket.on("data", (chunk) => chunks.push(chunk));
    socket.once("end", () => finish(false));
    // The manager may close before it has read all of a request that it refuses.
    socket.once("error", () => finish(false));
    socket.write(request.bytes);
    if (request.isCut) socket.end();
  });
}

function parse(bytes: Buffer): Pick<FuzzAnswer, "status" | "body"> {
  const text = bytes.toString("utf8").replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, "");
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1];
  const [headers = "", ...rest] = text.split("\r\n\r\n");
  const all = rest.join("\r\n\r\n");
  // Behind the answer to a request may come one to what followed it.
  const length = /^content-length: (\d+)$/im.exec(headers)?.[1];
  const body = length === undefined ? all : Buffer.from(all).subarray(0, Number(length)).toString();
  const isChunked = /^transfer-encoding: chunked$/im.test(headers);
  return {
    status: status === undefined ? undefined : Number(status),
    body: isChunked ? unchunk(body) : body,
  };
}

function unchunk(text: string): string {
  return text.replaceAll(/(?:^|\r\n)[0-9a-f]+\r\n/g, "").replace(/\r\n$/, "");
}

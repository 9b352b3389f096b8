import { STATUS_CODES, type Server } from "node:http";
import type { Server as SecureServer } from "node:https";
import type { Duplex } from "node:stream";
import { FarpoolError } from "@farpool/contract";

const JSON_TYPE = "application/json; charset=utf-8";
const LINGER_MS = 1_000;

/** What Node refuses before there is a request: the sender gets a sentence all the same. */
export function answerBrokenRequests(server: Server | SecureServer): void {
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    const [status, sentence] = describe(error.code);
    refuse(socket, status, sentence);
  });
  server.on("connect", (_, socket) => refuse(socket, 400, "the manager is no proxy: it has no CONNECT"));
  server.on("checkExpectation", (request, response) => {
    // Node lets no control characters through in a header.
    const expected = (request.headers.expect ?? "").slice(0, 100);
    const body = bodyOf(`the manager cannot do what 'expect: ${expected}' wants`);
    const headers = {
      "content-type": JSON_TYPE,
      "content-length": Buffer.byteLength(body),
      connection: "close",
    };
    response.writeHead(417, headers).end(body);
  });
}

function describe(code: string | undefined): readonly [status: number, sentence: string] {
  const known = code === undefined ? undefined : KNOWN.get(code);
  return known ?? [400, "this is no request that HTTP/1.1 knows"];
}

const KNOWN: ReadonlyMap<string, readonly [status: number, sentence: string]> = new Map([
  ["HPE_HEADER_OVERFLOW", [431, "the headers of the request are too long: 16 KiB are the most"]],
  ["HPE_CHUNK_EXTENSIONS_OVERFLOW", [413, "the chunk extensions of the request are too long"]],
  ["ERR_HTTP_REQUEST_TIMEOUT", [408, "the request was not complete in time"]],
]);

const bodyOf = (sentence: string): string =>
  JSON.stringify(new FarpoolError("FARPOOL_BAD_REQUEST", sentence).toBody());

function refuse(socket: Duplex, status: number, sentence: string): void {
  // Who is gone, or was being answered already, is told nothing.
  if (socket.destroyed || !socket.writable) return;
  const body = bodyOf(sentence);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    `content-type: ${JSON_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  socket.on("error", () => socket.destroy());
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
  // Who still sends when the connection is closed loses what was answered: the rest is read and dropped for a moment.
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once("close", () => clearTimeout(timer));
}

import { Agent, request, type ClientRequest, type IncomingMessage, type RequestOptions } from "node:http";
import type { AgentOptions, RequestOptions as SecureOptions } from "node:https";
import { AUTHORITY_HEADER, FarpoolError, MANAGER_TLS_NAME } from "@farpool/contract";
import { formatAddress, type ManagerAddress } from "./address.ts";

/** An answer of the manager is a few kilobytes; lists of a large pool are some megabytes. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024;

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

type OpenOptions = Omit<RequestOptions, "headers"> & { readonly headers?: Readonly<Record<string, string>> };

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * HTTP over a Unix socket, or HTTPS. Node's `fetch` knows no Unix sockets and takes longer to load than
 * `farpool run` may take in all.
 */
export function createHttp(address: ManagerAddress) {
  const way = address.kind === "unix" ? local(address.path) : remote(address);
  const headers: Record<string, string> = { host: address.kind === "unix" ? "farpool" : address.host };
  const { token = null } = address;
  if (token !== null) headers["authorization"] = `Bearer ${token}`;

  function hear({ headers }: IncomingMessage): void {
    const hash = headers[AUTHORITY_HEADER];
    if (address.kind === "https" && typeof hash === "string") address.onAuthority?.(hash);
  }

  function open(options: OpenOptions, signal: AbortSignal | undefined): ClientRequest {
    return way.request({
      ...options,
      headers: { ...headers, ...options.headers },
      ...(signal && { signal }),
    });
  }

  function once(input: HttpRequest): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const payload: Record<string, string> =
        input.body === undefined
          ? {}
          : { "content-type": "application/json", "content-length": String(Buffer.byteLength(input.body)) };
      const outgoing = open({ method: input.method, path: input.path, headers: payload }, input.signal);
      const timer = setTimeout(
        () => outgoing.destroy(timeoutError(address, input.timeoutMs)),
        input.timeoutMs,
      );
      outgoing.once("error", (error) => {
        clearTimeout(timer);
        reject(Object.assign(error, { reusedSocket: outgoing.reusedSocket }));
      });
      outgoing.once("response", (incoming) => {
        hear(incoming);
        readBody(incoming)
          .then((body) => resolve({ status: incoming.statusCode ?? 0, body }), reject)
          .finally(() => clearTimeout(timer));
      });
      outgoing.end(input.body);
    });
  }

  return {
    async send(input: HttpRequest): Promise<HttpAnswer> {
      try {
        return await once(input);
      } catch (error) {
        // The manager closed an idle connection just as it was used again: it has not seen the request. A Unix socket says so
        // by EPIPE.
        if (
          ["ECONNRESET", "EPIPE"].includes(errorCode(error) ?? "") &&
          error instanceof Error &&
          "reusedSocket" in error &&
          error.reusedSocket === true
        ) {
          return once(input).catch((again: unknown) => Promise.reject(unreachable(address, again)));
        }
        throw unreachable(address, error);
      }
    },

    /** Opens a stream on a connection of its own, which breaks when this process dies. */
    stream(path: string, signal: AbortSignal): Promise<IncomingMessage> {
      return new Promise((resolve, reject) => {
        const outgoing = open({ method: "GET", path, agent: false }, signal);
        outgoing.once("error", (error) => reject(unreachable(address, error)));
        outgoing.once("response", (incoming) => {
          incoming.on("error", () => undefined);
          resolve(incoming);
        });
        outgoing.end();
      });
    },

    close(): void {
      way.close();
    },
  };
}

interface Way {
  request(options: OpenOptions): ClientRequest;
  close(): void;
}

const AGENT: AgentOptions = { keepAlive: true, maxSockets: 16, timeout: 0 };

function local(path: string): Way {
  const agent = new Agent(AGENT);
  return {
    request: (options) => request({ agent, socketPath: path, ...options }),
    close: () => agent.destroy(),
  };
}

/**
 * Managers are recognised by the pool's authority and a name that only they get, so any address that leads to one will do.
 * HTTPS_PROXY and NO_PROXY are honoured.
 */
function remote(address: Extract<ManagerAddress, { kind: "https" }>): Way {
  // Loaded when needed: on the manager's own machine nobody pays for TLS.
  const https = process.getBuiltinModule("node:https");
  const agent = new https.Agent({ ...AGENT, proxyEnv: process.env });
  return {
    request(options) {
      const credentials = address.credentials?.() ?? null;
      const secure: SecureOptions = {
        host: address.host,
        port: address.port,
        servername: MANAGER_TLS_NAME,
        ca: credentials?.authority ?? address.authority,
        minVersion: "TLSv1.3",
        ...(credentials && { cert: credentials.certificate, key: credentials.privateKey }),
      };
      return https.request({ agent, ...secure, ...options });
    },
    close: () => agent.destroy(),
  };
}

export async function readBody(incoming: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of incoming) {
    const bytes = Buffer.from(chunk);
    size += bytes.length;
    if (size > MAX_ANSWER_BYTES)
      throw new FarpoolError("FARPOOL_UNAVAILABLE", "the manager's answer is too large");
    chunks.push(bytes);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

function timeoutError(address: ManagerAddress, timeoutMs: number): FarpoolError {
  return new FarpoolError(
    "FARPOOL_POOL_UNREACHABLE",
    `the manager at ${formatAddress(address)} did not answer within ${Math.round(timeoutMs / 1_000)} s`,
  );
}

function unreachable(address: ManagerAddress, error: unknown): unknown {
  if (error instanceof FarpoolError || (error instanceof Error && error.name === "AbortError")) return error;
  const code = errorCode(error);
  const place = formatAddress(address);
  const causes: Readonly<Record<string, string>> = {
    ENOENT: `no pool runs here: there is no socket ${address.kind === "unix" ? address.path : place}`,
    ECONNREFUSED: `nobody answers at ${place}`,
    EACCES: `this user may not open ${place}`,
    ENOTFOUND: `the host of ${place} is not known`,
  };
  const message =
    causes[code ?? ""] ?? `the manager at ${place} cannot be reached (${code ?? String(error)})`;
  if (code === "EACCES" || code === "EPERM") {
    return new FarpoolError("FARPOOL_NOT_PERMITTED", message, {
      hint: "the pool belongs to another user; 'farpool up' starts one of your own",
      cause: error,
    });
  }
  const authority = /CERT|ISSUER|ALTNAME|UNABLE_TO_VERIFY/.test(code ?? "");
  if (authority)
    return new FarpoolError(
      "FARPOOL_OTHER_AUTHORITY",
      `what answers at ${place} is not a manager of this machine's pool (${code})`,
      { hint: "'farpool join' with a new string joins another pool; ask the administrator", cause: error },
    );
  const hint =
    "'farpool doctor' looks for the cause; the address is FARPOOL_MANAGER's, or that of the pool joined";
  const options = address.kind === "https" ? { hint, cause: error } : { cause: error };
  return new FarpoolError("FARPOOL_POOL_UNREACHABLE", message, options);
}

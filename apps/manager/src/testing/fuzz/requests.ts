import type { Operation, OpenApiDocument } from "../../http/openapi.ts";
import type { Random } from "./random.ts";
import type { Values } from "./values.ts";

/** One request as bytes, and how it is sent. */
export interface FuzzRequest {
  /** What it is, for the message of a test that fails. */
  readonly title: string;
  readonly bytes: Buffer;
  /** The sender goes away behind the bytes, whatever they announced. */
  readonly isCut: boolean;
}

interface Target {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
}

const METHODS = [
  "GET",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "HEAD",
  "OPTIONS",
  "TRACE",
  "QUERY",
  "CONNECT",
] as const;
const CONTENT_TYPES = [
  "application/json; charset=utf-16",
  "text/plain",
  "application/x-www-form-urlencoded",
  "multipart/form-data; boundary=x",
  "application/json;;;",
  "",
  "a".repeat(300),
] as const;

/** Requests for every route of the document, one after the other; each in its own way wrong, or right. */
export function createRequests(document: OpenApiDocument, random: Random, values: Values): () => FuzzRequest {
  const targets = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): Target => ({
      method: method.toUpperCase(),
      path,
      operation,
    })),
  );
  let turn = 0;

  function next(): FuzzRequest {
    const target = targets[turn % targets.length];
    turn += 1;
    if (target === undefined) throw new Error("the document has no routes");
    return random.pick(WAYS)(target);
  }

  const oneWrong = (target: Target): FuzzRequest => {
    const spoilsPath = target.path.includes("{") && random.oneIn(3);
    const spoilsQuery = target.operation.parameters !== undefined && random.oneIn(3);
    return write(target, {
      path: address(target, spoilsPath, spoilsQuery),
      body: body(target, !spoilsPath && !spoilsQuery),
    });
  };
  const WAYS: readonly [(target: Target) => FuzzRequest, ...Array<(target: Target) => FuzzRequest>] = [
    (target) => write(target, { path: address(target, false, false), body: body(target, false) }),
    oneWrong,
    oneWrong,
    oneWrong,
    oneWrong,
    (target) => write(target, { method: random.pick(METHODS) }),
    (target) => write(target, { contentType: random.pick(CONTENT_TYPES) }),
    (target) => write(target, { body: brokenText() }),
    (target) => write(target, { headers: hostileHeaders() }),
    (target) => write(target, { path: hostileAddress(target) }),
    cut,
    lying,
    noHttp,
  ];

  function address(target: Target, spoilsPath: boolean, spoilsQuery: boolean): string {
    const parameters = target.operation.parameters ?? [];
    const path = target.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => {
      const schema = parameters.find((each) => each.name === name)?.schema;
      return spoilsPath ? encode(values.hostileText()) : encode(asText(values.valid(schema, name)));
    });
    const query = parameters
      .filter(
        (each) => each.in === "query" && (each.required || each.name === "timeoutMs" || random.oneIn(2)),
      )
      .flatMap(({ name, schema }) => {
        const value = spoilsQuery ? values.spoil(values.valid(schema, name)) : values.valid(schema, name);
        const pair = `${encode(name)}=${encode(asText(value))}`;
        return spoilsQuery && random.oneIn(4) ? [pair, pair] : [pair];
      });
    return query.length === 0 ? path : `${path}?${query.join("&")}`;
  }

  function hostileAddress(target: Target): string {
    const rest = random.pick([
      "%",
      "%ff",
      "%00",
      "%c0%ae%c0%ae/",
      "//",
      "/../..",
      "?revision[]=1",
      "?revision=1&revision=2",
      "?__proto__[x]=1",
      "?".repeat(50),
      `?${"a=1&".repeat(2_000)}`,
      `/${"x".repeat(12_000)}`,
      "#fragment",
      ";a=b",
      "?%",
      "?a=%ff",
    ]);
    return address(target, false, false).split("?")[0] + rest;
  }

  function body(target: Target, spoils: boolean): Buffer | undefined {
    const schema = target.operation.requestBody?.content["application/json"]?.schema;
    if (schema === undefined)
      return spoils && random.oneIn(3) ? Buffer.from('{"unexpected":[1]}') : undefined;
    const value = values.valid(schema, "body");
    return Buffer.from(JSON.stringify(spoils ? values.spoil(value) : value) ?? "");
  }

  function brokenText(): Buffer {
    return random.pick<() => Buffer>([
      () => Buffer.from("{"),
      () => Buffer.from(""),
      () => Buffer.from("NaN"),
      () => Buffer.from('{"a":1,}'),
      () => Buffer.from('{"a":"\xff\xfe\x80', "latin1"),
      () => Buffer.from([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]),
      () => Buffer.from('{"__proto__":{"isAdmin":true},"constructor":{"prototype":{"x":1}}}'),
      () => Buffer.from("[".repeat(30_000)),
      () => Buffer.from(`${"[".repeat(30_000)}${"]".repeat(30_000)}`),
      () => Buffer.from('{"a":'.repeat(10_000)),
      () => Buffer.from(`"${"x".repeat(200_000)}"`),
      () => Buffer.from(`{"count":${"9".repeat(5_000)}}`),
      () => Buffer.from(Array.from({ length: 500 }, () => random.below(256))),
    ])();
  }

  function hostileHeaders(): string[] {
    return random.pick<() => string[]>([
      () => [`x-long: ${"a".repeat(40_000)}`],
      () => Array.from({ length: 3_000 }, (_, index) => `x-${index}: 1`),
      () => ["expect: 100-continue"],
      () => ["expect: something-else"],
      () => ["authorization: Bearer \xff\xfe"],
      () => ["authorization: Basic Og=="],
      () => ["x-request-id: a\tb\u007f"],
      () => [`x-request-id: ${"z".repeat(5_000)}`],
      () => ["content-encoding: gzip"],
      () => ["upgrade: websocket", "connection: upgrade"],
      () => ["cookie: a=b; c"],
      () => ["accept: text/html", "accept-language: \xe4"],
      () => ["host: evil.example"],
      () => ["range: bytes=0-99999999999"],
    ])();
  }

  /** Announces more than comes, and goes. */
  function cut(target: Target): FuzzRequest {
    const whole = write(target, { path: address(target, false, false), body: body(target, false) }).bytes;
    const bytes = whole.subarray(0, random.below(whole.length));
    return { title: `cut after ${bytes.length} bytes: ${head(bytes)}`, bytes, isCut: true };
  }

  /** Lengths that contradict themselves. */
  function lying({ method, path }: Target): FuzzRequest {
    const lines = random.pick([
      ["content-length: 5", "content-length: 6"],
      ["content-length: -1"],
      ["content-length: 99999999999999999999"],
      ["content-length: 5", "transfer-encoding: chunked"],
      ["transfer-encoding: chunked, gzip"],
      ["transfer-encoding: chunked"],
      ["content-length: 0x10"],
    ]);
    const rest = random.pick([
      "zz\r\n{}\r\n0\r\n\r\n",
      "2\r\n{}\r\n0\r\nx: y\r\n\r\n",
      "ffffffffffffffff\r\n{}",
      "{}",
    ]);
    const text = `${method} ${path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n${lines.join("\r\n")}\r\n\r\n${rest}`;
    return { title: `lying: ${lines.join(", ")}`, bytes: Buffer.from(text, "latin1"), isCut: true };
  }

  function noHttp(): FuzzRequest {
    const bytes = random.pick<() => Buffer>([
      () => Buffer.from("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "latin1"),
      () => Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
      () => Buffer.from("GET / HTTP/9.9\r\n\r\n"),
      () => Buffer.from("GET /v1/status\r\n\r\n"),
      () => Buffer.from("\r\n".repeat(1_000)),
      () => Buffer.from(Array.from({ length: 300 }, () => random.below(256))),
      () => Buffer.from(`GET /${"a".repeat(100_000)} HTTP/1.1\r\nhost: a\r\n\r\n`),
      () =>
        Buffer.from("GET http://other.example/v1/status HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
      () => Buffer.from("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
    ])();
    return { title: `no HTTP: ${head(bytes)}`, bytes, isCut: true };
  }

  interface Parts {
    readonly method?: string;
    readonly path?: string;
    readonly contentType?: string;
    readonly body?: Buffer | undefined;
    readonly headers?: readonly string[];
  }

  function write(target: Target, parts: Parts): FuzzRequest {
    const method = parts.method ?? target.method;
    const path = parts.path ?? address(target, false, false);
    const content = "body" in parts ? parts.body : body(target, false);
    const lines = [
      `${method} ${path} HTTP/1.1`,
      "host: farpool",
      "connection: close",
      ...(parts.headers ?? []),
      ...(content === undefined
        ? []
        : [`content-type: ${parts.contentType ?? "application/json"}`, `content-length: ${content.length}`]),
    ];
    const start = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
    const bytes = content === undefined ? start : Buffer.concat([start, content]);
    return { title: head(bytes), bytes, isCut: false };
  }

  return next;
}

const head = (bytes: Buffer): string => JSON.stringify(bytes.subarray(0, 600).toString("latin1"));

const asText = (value: unknown): string =>
  typeof value === "string" ? value : (JSON.stringify(value) ?? "");

/** Half of a surrogate pair has no encoding of its own. */
const encode = (text: string): string => encodeURIComponent(text.toWellFormed());

import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { FastifyInstance } from "fastify";

/** What every agent and client says every few seconds: only with FARPOOL_LOG_LEVEL=debug. */
const HUM = /\/(?:heartbeat|report|grant)$/;

/** A proxy's id, if it has one that a log can hold, so that the logs of both tell the same story. */
export function requestId({ headers }: Pick<IncomingMessage, "headers">): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && /^[\w.:-]{1,64}$/.test(given) ? given : randomBytes(8).toString("hex");
}

/** A line for each request that changes something or fails; the answer names it by the same id. */
export function logRequests(app: FastifyInstance): void {
  app.addHook("onRequest", async (request, reply) => {
    reply.header("x-request-id", request.id);
  });
  app.addHook("onResponse", async (request, reply) => {
    const { statusCode: status, elapsedTime } = reply;
    const route = request.routeOptions.url ?? "none";
    const line = { method: request.method, route, status, ms: Math.round(elapsedTime * 10) / 10 };
    if (status >= 400) request.log.warn(line, "request refused");
    else if (request.method === "GET" || HUM.test(route)) request.log.debug(line, "request");
    else request.log.info(line, "request");
  });
}

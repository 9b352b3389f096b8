import {
  ROUTES,
  type RouteName,
  type RouteRequest,
  type RouteResponse,
  type RouteSpec,
} from "@farpool/contract";
import type { FastifyInstance } from "fastify";
import { accessOf } from "./access.ts";
import type { Principal } from "./principal.ts";

/** An agent reports thousands of workers at once; everybody else sends a few fields. */
const REPORT_LIMIT_BYTES = 16 * 1024 * 1024;
const BODY_LIMIT_BYTES = 64 * 1024;

export const toFastifyPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");

/** Serves one route of the contract: its schemas check what comes in and what goes out. */
export function serve<N extends RouteName>(
  app: FastifyInstance,
  name: N,
  handler: (request: RouteRequest<N>, signal: AbortSignal, principal: Principal) => Promise<RouteResponse<N>>,
): void {
  const spec: RouteSpec = ROUTES[name];
  app.route({
    method: spec.method,
    url: toFastifyPath(spec.path),
    bodyLimit: spec.path.startsWith("/v1/agents") ? REPORT_LIMIT_BYTES : BODY_LIMIT_BYTES,
    config: accessOf(name),
    schema: {
      summary: spec.summary,
      operationId: name,
      response: { 200: spec.response },
      ...(spec.params && { params: spec.params }),
      ...(spec.query && { querystring: spec.query }),
      ...(spec.body && { body: spec.body }),
    },
    handler: async (request, reply) => {
      const gone = new AbortController();
      reply.raw.once("close", () => gone.abort());
      const { params, query, body } = request;
      // The validator compiler has replaced all three by what the route's schemas made of them.
      return handler({ params, query, body } as unknown as RouteRequest<N>, gone.signal, request.principal);
    },
  });
}

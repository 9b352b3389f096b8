import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from "fastify";
import { serializerCompiler, validatorCompiler } from "fastify-type-provider-zod";
import { logRequests, requestId } from "./request-log.ts";
import { registerDocuments } from "./docs.ts";
import { handleErrors, refuseBrokenPath } from "./errors.ts";
import { dropUnreadBodies } from "./unread-body.ts";

/** Fastify with the contract's schemas as validators and serializers. */
export function createApp(logger: FastifyBaseLogger): FastifyInstance {
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: "requestId" }),
    forceCloseConnections: true,
    genReqId: requestId,
    frameworkErrors: refuseBrokenPath,
    routerOptions: { maxParamLength: 16_384 },
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  handleErrors(app);
  dropUnreadBodies(app);
  logRequests(app);
  registerDocuments(app);
  return app;
}

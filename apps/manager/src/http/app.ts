import { FarpoolError, PRODUCT_NAME, VERSION } from "@farpool/contract";
import swagger from "@fastify/swagger";
import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from "fastify";
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from "fastify-type-provider-zod";
import { handleErrors } from "./errors.ts";

/** Fastify with the contract's schemas as validators, serializers and OpenAPI document. */
export async function createApp(logger: FastifyBaseLogger): Promise<FastifyInstance> {
  const app: FastifyInstance = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 16_384 },
  });
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  handleErrors(app);
  await app.register(swagger, {
    openapi: { openapi: "3.1.0", info: { title: `${PRODUCT_NAME} manager`, version: VERSION } },
    transform: jsonSchemaTransform,
  });
  const open = { farpool: { access: ["anyone"] } } as const;
  app.get("/openapi.json", { schema: { hide: true }, config: open }, () => {
    const document = app.swagger();
    if (document === undefined) throw new FarpoolError("FARPOOL_INTERNAL", "there is no OpenAPI document");
    return document;
  });
  return app;
}

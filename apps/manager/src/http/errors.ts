import { FarpoolError, type ErrorBody } from "@farpool/contract";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";

/** Every failure leaves as a code and a sentence. */
export function handleErrors(app: FastifyInstance): void {
  app.setErrorHandler<FastifyError | FarpoolError>((error, request, reply) => {
    const failure = toFarpoolError(error);
    if (failure.httpStatus >= 500) request.log.error({ err: error }, "request failed");
    return reply.status(failure.httpStatus).send(bodyOf(failure));
  });
  app.setNotFoundHandler((request, reply) => {
    const failure = new FarpoolError(
      "FARPOOL_NOT_FOUND",
      `there is no ${request.method} ${request.url.split("?")[0]}`,
      {
        hint: "/openapi.json describes every request",
      },
    );
    return reply.status(failure.httpStatus).send(bodyOf(failure));
  });
}

/** For what fails before there is a route: a path that cannot be decoded. */
export function refuseBrokenPath(error: FastifyError, _: FastifyRequest, reply: FastifyReply): void {
  const failure = toFarpoolError(error);
  void reply
    .status(failure.httpStatus)
    .type("application/json; charset=utf-8")
    .send(JSON.stringify(bodyOf(failure)));
}

const LONGEST_SENTENCE = 500;

/** Sentences quote what was sent: whatever that is, a sentence stays one line that a terminal can show. */
function bodyOf(failure: FarpoolError): ErrorBody {
  const { error } = failure.toBody();
  const line = error.message.replaceAll(/\p{Cc}/gu, "?").toWellFormed();
  const message = line.length <= LONGEST_SENTENCE ? line : `${line.slice(0, LONGEST_SENTENCE - 1)}…`;
  return { error: { ...error, message } };
}

function toFarpoolError(error: FastifyError | FarpoolError): FarpoolError {
  if (error instanceof FarpoolError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const issues = error.validation.map(
      (issue) => `${where(error.validationContext, issue.instancePath)}: ${issue.message}`,
    );
    return new FarpoolError("FARPOOL_BAD_REQUEST", issues.slice(0, 3).join("; "));
  }
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE")
    return new FarpoolError("FARPOOL_TOO_LARGE", "the request is too large");
  // Before the database's failures: a sender that goes away in the middle resets its connection, too.
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return new FarpoolError("FARPOOL_BAD_REQUEST", `the request is not understood: ${error.message}`);
  }
  if (isDatabaseAway(error)) {
    return new FarpoolError("FARPOOL_UNAVAILABLE", "the manager's database does not answer", {
      cause: error,
    });
  }
  return new FarpoolError("FARPOOL_INTERNAL", "the manager failed to answer; its log has the cause", {
    cause: error,
  });
}

function where(context: string | undefined, path: string): string {
  const field = path.replaceAll("/", ".").replace(/^\./, "");
  return field === "" ? (context ?? "request") : field;
}

/** Connection failures of the system, and the classes 08 (connection) and 57P (shutdown) of PostgreSQL. */
function isDatabaseAway(error: Error & { code?: string }): boolean {
  return (
    /^(ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|08...|57P..)$/.test(error.code ?? "") ||
    /Connection terminated|timeout exceeded when trying to connect/.test(error.message)
  );
}

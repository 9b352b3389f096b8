import * as z from "zod";

interface ErrorKind {
  readonly httpStatus: number;
  /** After sysexits: 64 usage, 69 unavailable, 70 internal, 75 try later, 77 not permitted. */
  readonly exitCode: number;
  readonly hint: string | null;
}

/** Every failure the control plane can report. Codes are part of the API: they are never renamed. */
export const ERRORS = {
  FARPOOL_USAGE: { httpStatus: 400, exitCode: 64, hint: "'farpool --help' lists commands and options" },
  FARPOOL_BAD_REQUEST: { httpStatus: 400, exitCode: 64, hint: "/openapi.json describes every request" },
  FARPOOL_TOO_LARGE: { httpStatus: 413, exitCode: 64, hint: null },
  FARPOOL_SIZE_TOO_LARGE: { httpStatus: 422, exitCode: 64, hint: "'farpool gpus' lists what there is" },
  FARPOOL_NEVER_FITS: { httpStatus: 422, exitCode: 69, hint: "'farpool gpus' lists what there is" },
  FARPOOL_WAIT_OVER: {
    httpStatus: 409,
    exitCode: 75,
    hint: "without --wait a session waits as long as it takes",
  },
  FARPOOL_UNAUTHENTICATED: {
    httpStatus: 401,
    exitCode: 77,
    hint: "'farpool join' makes this machine a client of the pool, 'farpool login' signs a person in",
  },
  FARPOOL_CERTIFICATE: {
    httpStatus: 401,
    exitCode: 77,
    hint: "an administrator sees this machine with 'farpool clients' or 'farpool servers'",
  },
  FARPOOL_OTHER_AUTHORITY: {
    httpStatus: 403,
    exitCode: 77,
    hint: "ask the administrator for a new string; do not use this one elsewhere",
  },
  FARPOOL_TOO_MANY_ATTEMPTS: { httpStatus: 429, exitCode: 75, hint: null },
  FARPOOL_NOT_PERMITTED: { httpStatus: 403, exitCode: 77, hint: null },
  /** A policy says no: the sentence names policy, value asked, value allowed, origin, and who can change it. */
  FARPOOL_POLICY: {
    httpStatus: 403,
    exitCode: 77,
    hint: "'farpool admin policies explain' prints every field and where it comes from",
  },
  FARPOOL_OVER_BUDGET: {
    httpStatus: 403,
    exitCode: 77,
    hint: "an administrator of the pool can change it: farpool admin budgets set",
  },
  FARPOOL_NOT_SUPPORTED: { httpStatus: 422, exitCode: 69, hint: null },
  FARPOOL_NOT_FOUND: { httpStatus: 404, exitCode: 64, hint: null },
  FARPOOL_CONFLICT: { httpStatus: 409, exitCode: 69, hint: null },
  FARPOOL_SESSION_ENDED: {
    httpStatus: 410,
    exitCode: 69,
    hint: "'farpool sessions show' tells when and why",
  },
  FARPOOL_ALREADY_RUNNING: { httpStatus: 409, exitCode: 75, hint: "'farpool down' stops it" },
  FARPOOL_IDENTITY_PROVIDER: {
    httpStatus: 424,
    exitCode: 69,
    hint: "'farpool admin oidc' shows which identity provider the pool trusts",
  },
  FARPOOL_POOL_UNREACHABLE: {
    httpStatus: 503,
    exitCode: 69,
    hint: "'farpool up' starts a pool on this machine; 'farpool doctor' looks for the cause",
  },
  FARPOOL_UNAVAILABLE: {
    httpStatus: 503,
    exitCode: 69,
    hint: "try again in a moment; 'farpool status' shows the pool",
  },
  FARPOOL_INTERNAL: {
    httpStatus: 500,
    exitCode: 70,
    hint: "the logs are in the pool's state folder, under logs/",
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

export const errorCodeSchema = z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]);

/** The body of every answer that is not a success. */
export const errorBodySchema = z.object({
  error: z.object({ code: errorCodeSchema, message: z.string(), hint: z.string().nullable() }),
});
export type ErrorBody = z.output<typeof errorBodySchema>;

/** A failure with a code of the table, a sentence for people, and what to do about it. */
export class FarpoolError extends Error {
  readonly code: ErrorCode;
  readonly hint: string | null;

  constructor(code: ErrorCode, message: string, options: { hint?: string | null; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.name = "FarpoolError";
    this.code = code;
    this.hint = options.hint === undefined ? ERRORS[code].hint : options.hint;
  }

  get httpStatus(): number {
    return ERRORS[this.code].httpStatus;
  }

  get exitCode(): number {
    return ERRORS[this.code].exitCode;
  }

  toBody(): ErrorBody {
    return { error: { code: this.code, message: this.message, hint: this.hint } };
  }
}

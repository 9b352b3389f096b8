import { desiredSessionSchema, sessionIdSchema, workerSchema } from "@farpool/contract";
import * as z from "zod";

/** The acceptor's control protocol (ARCHITECTURE 4.5): one JSON object per line, either way. */

export const helloSchema = z.object({
  version: z.union([z.string(), z.number()]),
  pid: z.int(),
  port: z.int(),
  unixPath: z.string().nullish(),
  workerSandbox: z.enum(["strict", "off"]).nullish(),
});
export type Hello = z.output<typeof helloSchema>;

export const statusSchema = z.object({
  sessions: z.array(
    z.object({ id: sessionIdSchema, gpus: desiredSessionSchema.shape.gpus, workers: z.array(workerSchema) }),
  ),
});
export type AcceptorStatus = z.output<typeof statusSchema>;

export const answerSchema = z.object({
  id: z.number(),
  error: z.object({ code: z.string(), message: z.string() }).optional(),
});

export const eventSchema = z.object({
  event: z.enum(["workerStarted", "workerEnded"]),
  sessionId: sessionIdSchema,
  worker: workerSchema,
});
export type WorkerEvent = z.output<typeof eventSchema>;

export const unknownResults = z.object({});

/** The acceptor understood and said no. `code` is its word for programs. */
export class AcceptorRefusal extends Error {
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.name = "AcceptorRefusal";
    this.code = code;
  }
}

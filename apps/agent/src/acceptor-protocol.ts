import {
  desiredSessionSchema,
  instantSchema,
  sessionIdSchema,
  workerSchema,
  type DesiredSession,
  type ServerId,
  type Trust,
} from "@farpool/contract";
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
    z.object({
      id: sessionIdSchema,
      gpus: desiredSessionSchema.shape.gpus,
      /** False for a session of an earlier acceptor: its workers live, and nobody is let in until it is opened again. */
      isOpen: z.boolean().default(true),
      workers: z.array(workerSchema),
    }),
  ),
  /** Ended workers of sessions that are over, until they are forgotten. */
  ended: z.array(z.object({ sessionId: sessionIdSchema, worker: workerSchema })).default([]),
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

/** A connection that the acceptor or a worker turned away; what it named may be anything. */
export const refusedSchema = z.object({
  event: z.literal("refused"),
  sessionId: z.string().nullish(),
  connectionId: z.string().nullish(),
  peer: z.string().nullish(),
  reason: z.string(),
  at: instantSchema,
});
export type RefusedEvent = z.output<typeof refusedSchema>;

/** What no version of ours knows yet: it is left alone. */
export const anyEventSchema = z.object({ event: z.string() });

/** A session as `openSession` takes it: sent again, it changes what grants are checked against. */
export type AcceptorSession = Omit<DesiredSession, "endsInMs"> & {
  readonly trust: { readonly serverId: ServerId } & Trust;
};

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

import { connect, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { SessionId } from "@farpool/contract";
import type * as z from "zod";
import {
  AcceptorRefusal,
  answerSchema,
  anyEventSchema,
  eventSchema,
  helloSchema,
  refusedSchema,
  statusSchema,
  unknownResults,
  type AcceptorSession,
  type AcceptorStatus,
  type Hello,
  type RefusedEvent,
  type WorkerEvent,
} from "./acceptor-protocol.ts";

/** Closing ends workers: TERM, a second, KILL. */
const ANSWER_TIMEOUT_MS = 15_000;

export interface AcceptorConnection {
  readonly hello: Hello;
  /** Settles when the connection is over. */
  readonly closed: Promise<void>;
  openSession(session: AcceptorSession): Promise<void>;
  closeSession(sessionId: SessionId, reason: string): Promise<void>;
  status(): Promise<AcceptorStatus>;
  /** The manager knows all of these workers, which have ended. */
  forget(workers: readonly string[]): Promise<void>;
  end(): void;
}

interface Pending {
  readonly resolve: (line: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** Connects, says hello and subscribes. */
export async function connectAcceptor(
  path: string,
  onEvent: (event: WorkerEvent | RefusedEvent) => void,
): Promise<AcceptorConnection> {
  const socket = await open(path);
  const pending = new Map<number, Pending>();
  let nextId = 1;

  const closed = new Promise<void>((resolve) => {
    socket.once("close", () => {
      for (const { reject } of pending.values()) reject(new Error("the connection to the acceptor is over"));
      pending.clear();
      resolve();
    });
  });
  socket.on("error", () => socket.destroy());
  createInterface({ input: socket }).on("line", (line) => {
    try {
      receive(JSON.parse(line));
    } catch (cause) {
      socket.destroy(new Error("the acceptor sent a line that is not understood", { cause }));
    }
  });

  function receive(message: unknown): void {
    const event = eventSchema.safeParse(message);
    if (event.success) {
      onEvent(event.data);
      return;
    }
    const refused = refusedSchema.safeParse(message);
    if (refused.success) {
      onEvent(refused.data);
      return;
    }
    if (anyEventSchema.safeParse(message).success) return;
    const answer = answerSchema.parse(message);
    const request = pending.get(answer.id);
    pending.delete(answer.id);
    if (answer.error === undefined) request?.resolve(message);
    else request?.reject(new AcceptorRefusal(answer.error.code, answer.error.message));
  }

  async function ask<S extends z.ZodType>(op: string, parameters: object, results: S): Promise<z.output<S>> {
    const id = nextId;
    nextId += 1;
    const line = new Promise<unknown>((resolve, reject) => {
      if (socket.destroyed) reject(new Error("the connection to the acceptor is over"));
      else pending.set(id, { resolve, reject });
    });
    const timer = setTimeout(() => {
      pending
        .get(id)
        ?.reject(new Error(`the acceptor did not answer '${op}' within ${ANSWER_TIMEOUT_MS / 1_000} s`));
      pending.delete(id);
    }, ANSWER_TIMEOUT_MS);
    socket.write(`${JSON.stringify({ id, op, ...parameters })}\n`);
    try {
      return results.parse(await line);
    } finally {
      clearTimeout(timer);
    }
  }

  const hello = await ask("hello", {}, helloSchema);
  await ask("subscribe", {}, unknownResults);
  return {
    hello,
    closed,
    openSession: async (session) => {
      await ask("openSession", { session }, unknownResults);
    },
    closeSession: async (sessionId, reason) => {
      await ask("closeSession", { sessionId, reason }, unknownResults);
    },
    status: () => ask("status", {}, statusSchema),
    forget: async (workers) => {
      await ask("forget", { workers }, unknownResults);
    },
    end: () => socket.destroy(),
  };
}

function open(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => {
      socket.removeListener("error", reject);
      resolve(socket);
    });
    socket.once("error", reject);
  });
}

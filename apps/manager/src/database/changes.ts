import type { ServerId, SessionId } from "@farpool/contract";
import { sql } from "kysely";
import pg from "pg";
import { clientConfig, type ConnectionConfig, type Database } from "./connect.ts";

/** What changes are announced on; the text is a topic. */
export const CHANNEL = "farpool_changes";
/**
 * Notifications are lost while the listening connection is down: whoever waits looks again when it is back. That it is down
 * may be told by nobody, so it is asked. (That each of thousands of waiters looked again by itself was most of what an idle
 * pool cost.)
 */
const PROBE_MS = 5_000;
const RECONNECT_MS = 500;

export type Topic = `session/${SessionId}` | `server/${ServerId}`;

/** Tells every manager, when the transaction commits, that something changed. */
export async function announce(db: Database, topic: Topic): Promise<void> {
  await sql`select pg_notify(${CHANNEL}, ${topic})`.execute(db);
}

export interface Changes {
  /** Aborted when the manager stops: whoever waits answers with what there is. */
  readonly closed: AbortSignal;
  /** Resolves at the next change of the topic, when the time is over, or when the signal aborts. */
  wait(topic: Topic, timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** The manager stops: whoever waits answers now, and nobody waits any more. */
  endWaits(): void;
  close(): Promise<void>;
}

/** Long polls wait here. One connection listens for all of them. */
export async function listenForChanges(
  config: ConnectionConfig,
  onError: (error: unknown) => void,
): Promise<Changes> {
  const waiters = new Map<string, Set<() => void>>();
  let client: pg.Client | undefined;
  const closing = new AbortController();

  const wake = (topic: string): void => waiters.get(topic)?.forEach((settle) => settle());

  async function open(): Promise<void> {
    const fresh = new pg.Client({ ...clientConfig(config), query_timeout: PROBE_MS });
    fresh.on("notification", (message) => wake(message.payload ?? ""));
    fresh.on("error", onError);
    try {
      await fresh.connect();
      await fresh.query(`listen ${CHANNEL}`);
    } catch (error) {
      void fresh.end().catch(() => undefined);
      throw error;
    }
    if (closing.signal.aborted) {
      // Left open, it would keep the process of a manager that has stopped.
      await fresh.end();
      return;
    }
    client = fresh;
    // Not before: a connection that never came about ends too, and the failed attempt is repeated already.
    fresh.once("end", () => {
      if (client === fresh) lose(fresh);
    });
    for (const topic of waiters.keys()) wake(topic);
  }

  function reopen(): void {
    if (closing.signal.aborted) return;
    open().catch((error: unknown) => {
      onError(error);
      setTimeout(reopen, RECONNECT_MS);
    });
  }

  function lose(lost: pg.Client): void {
    client = undefined;
    void lost.end().catch(() => undefined);
    if (!closing.signal.aborted) setTimeout(reopen, RECONNECT_MS);
  }

  async function probe(): Promise<void> {
    const probed = client;
    try {
      await probed?.query("select 1");
    } catch (error) {
      if (probed === undefined || client !== probed || closing.signal.aborted) return;
      onError(error);
      lose(probed);
    }
  }

  function endWaits(): void {
    closing.abort();
    for (const topic of waiters.keys()) wake(topic);
  }

  await open();
  const probing = setInterval(() => void probe(), PROBE_MS);
  probing.unref();
  return {
    closed: closing.signal,
    wait(topic, timeoutMs, signal) {
      return new Promise((resolve) => {
        const set = waiters.get(topic) ?? new Set();
        waiters.set(topic, set);
        const settle = (): void => {
          clearTimeout(timer);
          signal.removeEventListener("abort", settle);
          set.delete(settle);
          if (set.size === 0 && waiters.get(topic) === set) waiters.delete(topic);
          resolve();
        };
        const timer = setTimeout(settle, timeoutMs);
        set.add(settle);
        if (signal.aborted) settle();
        else signal.addEventListener("abort", settle, { once: true });
      });
    },
    endWaits,
    async close() {
      endWaits();
      clearInterval(probing);
      const last = client;
      client = undefined;
      await last?.end();
    },
  };
}

/**
 * Reads again at every change until `isNew` says so or the time is over. The wait begins before the
 * read, so a change between the two is not missed.
 */
export async function pollUntil<T>(options: {
  changes: Changes;
  topic: Topic;
  timeoutMs: number;
  signal: AbortSignal;
  read: () => Promise<T>;
  isNew: (value: T) => boolean;
}): Promise<T> {
  const { changes, topic, read, isNew } = options;
  const signal = AbortSignal.any([options.signal, changes.closed]);
  const deadline = Date.now() + options.timeoutMs;
  for (;;) {
    const stop = new AbortController();
    const change = changes.wait(
      topic,
      Math.max(0, deadline - Date.now()),
      AbortSignal.any([signal, stop.signal]),
    );
    try {
      const value = await read();
      if (isNew(value) || signal.aborted || Date.now() >= deadline) return value;
      await change;
    } finally {
      stop.abort();
    }
  }
}

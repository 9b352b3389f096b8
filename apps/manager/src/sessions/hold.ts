import type { ServerResponse } from "node:http";
import { TIMES, type HoldLine, type SessionId } from "@farpool/contract";
import { pollUntil, type Changes } from "../database/changes.ts";
import type { Database } from "../database/connect.ts";
import { readNotices } from "./notices.ts";
import { readSession } from "./read.ts";
import { renewLeases, shortenLease } from "./lease.ts";

/**
 * Connections by which clients hold their sessions. While one is open its client lives, even when it is
 * stopped (Ctrl-Z) and sends no heartbeats: the kernel closes it when the process dies. Its end
 * shortens the lease.
 */
export interface Holds {
  /**
   * Streams the session's states as lines until it ends or the connection does, with the notices from the number
   * `after` on; null: with those that come from now on.
   */
  serve(id: SessionId, response: ServerResponse, after: number | null): Promise<void>;
  renewHeld(): Promise<void>;
  close(): void;
}

export function createHolds(db: Database, changes: Changes, onError: (error: unknown) => void): Holds {
  const open = new Map<SessionId, number>();
  const closing = new AbortController();

  const count = (id: SessionId, step: number): number => {
    const next = (open.get(id) ?? 0) + step;
    if (next === 0) open.delete(id);
    else open.set(id, next);
    return next;
  };

  return {
    async serve(id, response, after) {
      const gone = new AbortController();
      const signal = AbortSignal.any([gone.signal, closing.signal]);
      // A host that vanishes sends nothing: the kernel has to ask.
      response.socket?.setKeepAlive(true, TIMES.heartbeatMs);
      response.once("close", () => gone.abort());
      count(id, 1);
      let ended = false;
      try {
        await renewLeases(db, [id]);
        let revision = -1;
        let told = after;
        while (!signal.aborted && !ended) {
          const session = await pollUntil({
            changes,
            topic: `session/${id}`,
            timeoutMs: TIMES.longPollMs,
            signal,
            read: () => readSession(db, id),
            isNew: (value) => value.revision > revision,
          });
          if (session.revision <= revision) continue;
          revision = session.revision;
          ended = session.state === "ended";
          const { notices, last } = await readNotices(db, id, told);
          told = last;
          const line: HoldLine = {
            notices,
            lastNotice: last,
            state: session.state,
            endReason: session.endReason,
            message: session.endMessage,
          };
          response.write(`${JSON.stringify(line)}\n`);
        }
      } catch (error) {
        onError(error);
      } finally {
        const left = count(id, -1);
        // When this manager stops, the client has done nothing wrong: the lease keeps its length.
        if (left === 0 && !ended && !closing.signal.aborted) await shortenLease(db, id).catch(onError);
        response.end();
      }
    },
    renewHeld: () => renewLeases(db, [...open.keys()]),
    close: () => closing.abort(),
  };
}

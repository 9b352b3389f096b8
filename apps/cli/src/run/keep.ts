import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import { FarpoolError, TIMES, type EndReason, type Session, type SessionNotice } from "@farpool/contract";

export type EndListener = (reason: EndReason | null, message: string | null) => void;
export type NoticeListener = (notice: SessionNotice) => void;

/** Why a session has ended, for people. */
export function whyEnded(reason: EndReason | null, message: string | null): string {
  return message ?? reason?.replaceAll("-", " ") ?? "unknown reason";
}

export interface Keeper {
  onEnded(listener: EndListener): void;
  onNotice(listener: NoticeListener): void;
}

/** A heartbeat, and a stream whose end tells the manager that this process is gone. */
export function keep(client: ManagerClient, session: Session, signal: AbortSignal): Keeper {
  let ending: { reason: EndReason | null; message: string | null } | undefined;
  let listener: EndListener | undefined;
  let noticed: NoticeListener | undefined;
  const notices: SessionNotice[] = [];
  /** Up to which number notices were told. */
  let after: number | undefined;
  const over = (reason: EndReason | null, message: string | null): void => {
    if (ending !== undefined || signal.aborted) return;
    ending = { reason, message };
    listener?.(reason, message);
  };

  async function hold(): Promise<void> {
    while (!signal.aborted && ending === undefined) {
      try {
        for await (const line of client.hold(session.id, signal, after)) {
          after = line.lastNotice;
          for (const notice of line.notices) {
            if (noticed === undefined) notices.push(notice);
            else noticed(notice);
          }
          if (line.state === "ended") over(line.endReason, line.message);
        }
      } catch (error) {
        if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_FOUND")
          over(null, "the manager does not know it any more");
      }
      await sleep(250, undefined, { signal }).catch(() => undefined);
    }
  }

  async function beat(): Promise<void> {
    while (!signal.aborted && ending === undefined) {
      await sleep(TIMES.heartbeatMs, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      // A manager that is away changes nothing: it gives every lease a fresh period when it is back.
      await client
        .call("heartbeatSession", { params: { sessionId: session.id } }, { signal })
        .catch(() => undefined);
    }
  }

  void hold();
  void beat();
  return {
    onEnded(next) {
      listener = next;
      if (ending !== undefined) next(ending.reason, ending.message);
    },
    onNotice(next) {
      noticed = next;
      for (const notice of notices.splice(0)) next(notice);
    },
  };
}

import { randomInt } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  newSessionId,
  type Session,
  type SessionId,
  type Size,
  type Thumbprint,
} from "@farpool/contract";
import { waitingLine } from "../run/report.ts";
import { takeSession, type SessionHandle, type SessionWish, type Waiting } from "../run/session.ts";
import { adoptSession, findSession, isAlive, type HeldSession } from "./held-session.ts";
import type { HoldingOptions } from "./holding.ts";
import { messageOf } from "./not-held.ts";
import type { KnownProcess, StateKeeper } from "./state-file.ts";

/** How long a place in the queue is kept for the programs of the service before this one: they ask again within a second. */
const COME_BACK_MS = 5_000;
const END_TIMEOUT_MS = 3_000;
/** After this an end that failed is tried again. */
const END_AGAIN_MS = 5_000;

export interface Asked {
  readonly count: number;
  readonly size: Size;
}

/** A session that is there now. */
export interface Taken {
  readonly handle: SessionHandle;
  readonly known: readonly KnownProcess[];
  readonly isOutdated: boolean;
}

export interface TakingOptions {
  readonly manager: () => Promise<ManagerClient>;
  readonly clientKey: Thumbprint;
  /** Says what was asked for last: until that is known to have ended, the manager gives nothing else. */
  readonly state: StateKeeper;
  /** How many GPUs of which size the file and the manager say now. */
  readonly asked: () => Promise<Asked>;
  readonly wish: () => Promise<Omit<SessionWish, "id">>;
  readonly open: (taken: Taken) => HeldSession;
  /** Called when nobody may want a session any more. */
  readonly changed: () => void;
  readonly log: (sentence: string) => void;
}

export interface Taking extends Pick<HoldingOptions, "take" | "giveUp"> {
  /** The session of the service before this one is found again whether somebody needs it or not. */
  isLookedFor(): boolean;
}

/** How the service comes to its session: by the one that it, or the service before it, has asked for, or by another one. */
export function createTaking(options: TakingOptions): Taking {
  const { state } = options;
  let isLookedFor = state.current.sessionId !== null;
  let ending: Promise<void> = Promise.resolve();
  let endTimer: NodeJS.Timeout | undefined;

  function forget(id: SessionId): void {
    if (state.current.sessionId === id) state.change({ sessionId: null, processes: [] });
  }

  async function end(id: SessionId): Promise<void> {
    try {
      const params = { sessionId: id };
      const client = await options.manager();
      await client.call(
        "endSession",
        { params, body: { reason: "cancelled" } },
        { timeoutMs: END_TIMEOUT_MS },
      );
    } catch (error) {
      if (!(error instanceof FarpoolError) || error.code !== "FARPOOL_NOT_FOUND") throw error;
    }
    forget(id);
  }

  /** When it fails, it is tried again, unless the session is wanted before. */
  async function giveUp(): Promise<void> {
    const id = state.current.sessionId;
    if (id === null) return;
    await end(id).catch((error: unknown) => endLater(id, error));
  }

  function endLater(id: SessionId, error: unknown): void {
    options.log(`session ${id} could not be ended and is ended later: ${messageOf(error)}`);
    clearTimeout(endTimer);
    endTimer = setTimeout(() => {
      ending = giveUp();
    }, END_AGAIN_MS);
    endTimer.unref();
  }

  function lookNoMore(): void {
    if (!isLookedFor) return;
    isLookedFor = false;
    options.changed();
  }

  function opened(taken: Taken): HeldSession {
    const { handle } = taken;
    const { id } = handle.session;
    state.change({ sessionId: id, processes: [...taken.known] });
    return options.open({
      ...taken,
      handle: {
        ...handle,
        onEnded: (listener) =>
          handle.onEnded((reason, message) => {
            forget(id);
            listener(reason, message);
          }),
        async end() {
          try {
            await handle.end();
          } catch (error) {
            endLater(id, error);
            return;
          }
          forget(id);
        },
      },
    });
  }

  /** Undefined: there is none, or none that will do. */
  async function adopt(client: ManagerClient, waiting: Waiting): Promise<HeldSession | undefined> {
    const { sessionId, processes } = state.current;
    if (sessionId === null) return undefined;
    const found = await findSession(client, sessionId, options.clientKey);
    const isOutdated = found !== undefined && !fits(found, await options.asked());
    if (found === undefined) forget(sessionId);
    else if (isOutdated && !processes.some(isAlive)) {
      options.log(`session ${sessionId} is not what is asked for now, and nobody is in it: it ends`);
      await end(sessionId);
    } else {
      const handle = await foundAgain(client, found, waiting);
      if (handle !== undefined) {
        options.log(`session ${sessionId} goes on`);
        return opened({ handle, known: processes, isOutdated });
      }
      forget(sessionId);
    }
    return undefined;
  }

  async function foundAgain(
    client: ManagerClient,
    found: Session,
    waiting: Waiting,
  ): Promise<SessionHandle | undefined> {
    const timer = found.state === "queued" ? setTimeout(lookNoMore, COME_BACK_MS) : undefined;
    timer?.unref();
    try {
      return await adoptSession(client, found, waiting);
    } finally {
      clearTimeout(timer);
    }
  }

  async function take(signal: AbortSignal, say: (sentence: string) => void): Promise<HeldSession> {
    clearTimeout(endTimer);
    await ending;
    const client = await options.manager();
    const waiting: Waiting = {
      queued: (session) => say(waitingLine(session, Date.now())),
      away: () => say("the pool does not answer; its queue is kept, so the place in it is too"),
      signal,
      isKept: true,
    };
    // By what the manager says now there may be nobody who needs a session.
    await options.asked();
    signal.throwIfAborted();
    const adopted = await adopt(client, waiting);
    isLookedFor = false;
    if (adopted !== undefined) return adopted;
    options.changed();
    signal.throwIfAborted();
    const id = newSessionId(randomInt);
    const wish = { ...(await options.wish()), id };
    // Before it is asked for: a service that is killed in between leaves a session that the next one finds.
    state.change({ sessionId: id, processes: [] });
    return opened({ handle: await takeSession(client, wish, waiting), known: [], isOutdated: false });
  }

  return {
    isLookedFor: () => isLookedFor,
    take,
    giveUp,
  };
}

function fits(session: Session, { count, size }: Asked): boolean {
  return session.count === count && isDeepStrictEqual(session.size, size);
}

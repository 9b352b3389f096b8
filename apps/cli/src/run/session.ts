import { randomInt } from "node:crypto";
import { hostname, userInfo } from "node:os";
import { keep, whyEnded, type EndListener, type NoticeListener } from "./keep.ts";
import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";

import {
  FarpoolError,
  formatRequest,
  newSessionId,
  TIMES,
  type Labels,
  type Filter,
  type PublicKey,
  type ServerId,
  type Session,
  type SessionConnection,
  type SessionGpus,
  type SessionGrant,
  type SessionId,
  type SessionPurpose,
  type Size,
} from "@farpool/contract";

export interface SessionWish {
  /** For who has to know it before the manager does; else it is made here. */
  readonly id?: SessionId;
  readonly count: number;
  readonly size: Size;
  readonly name: string | undefined;
  readonly waitMs: number | undefined;
  readonly purpose: SessionPurpose;
  readonly project: string | undefined;
  readonly labels: Labels;
  readonly idleTimeoutMs: number | undefined;
  readonly maxDurationMs: number | undefined;
  readonly autoReleaseMs: number | undefined;
  readonly filters: readonly Filter[] | undefined;
  readonly priority: number | undefined;
  readonly spreadServers: boolean;
  readonly program: string;
  /** Whose holder lets processes into the session. */
  readonly clientKey: PublicKey;
}

export interface SessionHandle {
  readonly session: Session;
  readonly connection: SessionConnection;
  /** A fresh grant for one of the session's servers, while it lives. */
  renewGrant(serverId: ServerId): Promise<SessionGrant>;
  /** What the session's GPUs are and do now. */
  readGpus(): Promise<SessionGpus>;
  /** Called once when the session ends without us: by an administrator, with its server. */
  onEnded(listener: EndListener): void;
  /** Called for each notice of the manager: a message, a warning. */
  onNotice(listener: NoticeListener): void;
  /** Gives the GPUs back, once; of a session that goes on without us only our hold of it. */
  end(): Promise<void>;
  /** Whether the session goes on without us. */
  readonly goesOn: boolean;
}

export interface Waiting {
  /** Called at every change of the queue. */
  readonly queued: (session: Session) => void;
  /** Called when the manager does not answer; it is waited for. */
  readonly away: () => void;
  /** Leaves the queue. */
  readonly signal: AbortSignal;
  /** A session that is not waited for any more stays as it is: the caller ends it, or waits for it again. */
  readonly isKept?: boolean;
}

/**
 * Asks for a session, waits until its server takes connections, and keeps it: a heartbeat, and a stream
 * whose end tells the manager that this process is gone. Throws with a code when there will be none.
 */
export async function takeSession(
  client: ManagerClient,
  wish: SessionWish,
  { queued, away, signal, isKept = false }: Waiting,
): Promise<SessionHandle> {
  let session = await create(client, wish, { away, signal });
  const params = { sessionId: session.id };
  const released = new AbortController();
  const keeper = keep(client, session, released.signal);
  try {
    session = await untilActive(client, session, { queued, away, signal });
    const goesOn = wish.purpose === "reserve";
    let isGivenBack = goesOn;
    const connection = await connectionOf(client, session.id, { away, signal });
    return {
      session,
      connection,
      goesOn,
      ...questionsOf(client, session.id, released.signal),
      onEnded: keeper.onEnded,
      onNotice: keeper.onNotice,
      async end() {
        released.abort();
        if (isGivenBack) return;
        await client.call("endSession", { params, body: { reason: "finished" } }, { timeoutMs: 5_000 });
        isGivenBack = true;
      },
    };
  } catch (error) {
    released.abort();
    if (!isKept)
      await client
        .call("endSession", { params, body: { reason: "cancelled" } }, { timeoutMs: 3_000 })
        .catch(() => undefined);
    throw error;
  }
}

/** How long is asked again after a manager died under the request. */
const CREATE_PATIENCE_MS = 15_000;

/** The id is ours: a manager that had granted it before it died says the same again. */
async function create(client: ManagerClient, wish: SessionWish, patience: Patience): Promise<Session> {
  const body = {
    id: wish.id ?? newSessionId(randomInt),
    count: wish.count,
    size: wish.size,
    name: wish.name ?? null,
    client: { host: hostname(), user: userName(), pid: process.pid, program: wish.program },
    clientKey: wish.clientKey,
    waitMs: wish.waitMs ?? null,
    purpose: wish.purpose,
    project: wish.project ?? null,
    labels: wish.labels,
    idleTimeoutMs: wish.idleTimeoutMs ?? null,
    maxDurationMs: wish.maxDurationMs ?? null,
    autoReleaseMs: wish.autoReleaseMs ?? null,
    filters: (wish.filters ?? []).map(({ text }) => text),
    priority: wish.priority,
    spreadServers: wish.spreadServers,
  };
  const ask = (): Promise<Session> => client.call("createSession", { body });
  try {
    return await ask();
  } catch (error) {
    // Where nobody was to begin with, there is no pool. A manager whose database is away, as an embedded one is while its own
    // manager starts again, is a pool.
    if (!hasBrokenOff(error) && !isUnavailable(error)) throw error;
    return await persistently(ask, { ...patience, deadline: performance.now() + CREATE_PATIENCE_MS });
  }
}

/** A manager answered the call, so to speak, and then it was gone. */
function hasBrokenOff(error: unknown): boolean {
  const cause = error instanceof FarpoolError ? error.cause : undefined;
  return cause instanceof Error && "code" in cause && (cause.code === "ECONNRESET" || cause.code === "EPIPE");
}

/** A manager says that it cannot answer now. */
function isUnavailable(error: unknown): boolean {
  return error instanceof FarpoolError && error.code === "FARPOOL_UNAVAILABLE";
}

/** What lets processes into an active session. */
export function connectionOf(
  client: ManagerClient,
  sessionId: SessionId,
  patience: Patience,
): Promise<SessionConnection> {
  return persistently(() => client.call("connectSession", { params: { sessionId } }), patience);
}

/** What is asked again and again while a session is held. */
export function questionsOf(
  client: ManagerClient,
  sessionId: SessionId,
  signal: AbortSignal,
): Pick<SessionHandle, "renewGrant" | "readGpus"> {
  const params = { sessionId };
  return {
    renewGrant: (serverId) => client.call("grantSession", { params, query: { serverId } }, { signal }),
    readGpus: () => client.call("sessionGpus", { params }, { signal }),
  };
}

/** A manager that restarts is waited for; so is a server that opens. */
export async function untilActive(
  client: ManagerClient,
  first: Session,
  { queued, away, signal }: Waiting,
): Promise<Session> {
  let session = first;
  while (session.state !== "active") {
    if (session.state === "ended") throw refusedAfterWaiting(session);
    if (session.state === "queued") queued(session);
    session = await watch(client, session, { away, signal });
  }
  return session;
}

type Patience = Pick<Waiting, "away" | "signal"> & {
  /** As `performance.now()` tells; without it there is none. */
  readonly deadline?: number;
};

/** The session when it has changed; the queue is in the database, so any manager will do. */
function watch(client: ManagerClient, session: Session, patience: Patience): Promise<Session> {
  const input = { params: { sessionId: session.id }, query: { revision: session.revision } };
  const { signal } = patience;
  return persistently(
    () => client.call("watchSession", input, { signal, timeoutMs: 2 * TIMES.longPollMs }),
    patience,
  );
}

/** A manager that restarts is waited for. What is asked must be the same when it is asked twice. */
async function persistently<T>(ask: () => Promise<T>, { away, signal, deadline }: Patience): Promise<T> {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const isPassing =
        isUnavailable(error) || (error instanceof FarpoolError && error.code === "FARPOOL_POOL_UNREACHABLE");
      if (!isPassing || (deadline !== undefined && performance.now() > deadline)) throw error;
      away();
      await sleep(300, undefined, { signal });
    }
  }
}

function refusedAfterWaiting(session: Session): FarpoolError {
  const message = whyEnded(session.endReason, session.endMessage);
  if (session.endReason === "wait-over") {
    return new FarpoolError("FARPOOL_WAIT_OVER", `${formatRequest(session.count, session.size)}: ${message}`);
  }
  return new FarpoolError("FARPOOL_SESSION_ENDED", `session ${session.id} has ended: ${message}`);
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // An account without an entry in the user database: containers have them.
    return String(process.getuid?.() ?? "unknown");
  }
}

import { hostname, userInfo } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  formatRequest,
  TIMES,
  type EndReason,
  type Filter,
  type PublicKey,
  type Session,
  type SessionConnection,
  type SessionGrant,
  type Size,
} from "@farpool/contract";

export interface SessionWish {
  readonly count: number;
  readonly size: Size;
  readonly name: string | undefined;
  readonly waitMs: number | undefined;
  readonly filters: readonly Filter[] | undefined;
  readonly priority: number | undefined;
  readonly maxDurationMs: number | undefined;
  readonly spreadServers: boolean;
  readonly program: string;
  /** Whose holder lets processes into the session. */
  readonly clientKey: PublicKey;
}

export interface SessionHandle {
  readonly session: Session;
  readonly connection: SessionConnection;
  /** A fresh grant for the session, while it lives. */
  renewGrant(): Promise<SessionGrant>;
  /** Called once when the session ends without us: by an administrator, with its server. */
  onEnded(listener: (reason: EndReason | null, message: string | null) => void): void;
  /** Gives the GPUs back, once. */
  end(): Promise<void>;
}

interface Waiting {
  /** Called at every change of the queue. */
  readonly queued: (session: Session) => void;
  /** Called when the manager does not answer; it is waited for. */
  readonly away: () => void;
  /** Leaves the queue. */
  readonly signal: AbortSignal;
}

/**
 * Asks for a session, waits until its server takes connections, and keeps it: a heartbeat, and a stream
 * whose end tells the manager that this process is gone. Throws with a code when there will be none.
 */
export async function takeSession(
  client: ManagerClient,
  wish: SessionWish,
  { queued, away, signal }: Waiting,
): Promise<SessionHandle> {
  let session = await client.call("createSession", {
    body: {
      count: wish.count,
      size: wish.size,
      name: wish.name ?? null,
      client: { host: hostname(), user: userName(), pid: process.pid, program: wish.program },
      clientKey: wish.clientKey,
      waitMs: wish.waitMs ?? null,
      filters: (wish.filters ?? []).map(({ text }) => text),
      priority: wish.priority,
      maxDurationMs: wish.maxDurationMs ?? null,
      spreadServers: wish.spreadServers,
    },
  });
  const params = { sessionId: session.id };
  const released = new AbortController();
  const keeper = keep(client, session, released.signal);
  try {
    while (session.state !== "active") {
      if (session.state === "ended") throw refusedAfterWaiting(session);
      if (session.state === "queued") queued(session);
      session = await watch(client, session, { away, signal });
    }
    const connection = await client.call("connectSession", { params });
    let isGivenBack = false;
    return {
      session,
      connection,
      renewGrant: () => client.call("grantSession", { params }, { signal: released.signal }),
      onEnded: keeper.onEnded,
      async end() {
        if (isGivenBack) return;
        released.abort();
        await client.call("endSession", { params, body: { reason: "finished" } }, { timeoutMs: 5_000 });
        isGivenBack = true;
      },
    };
  } catch (error) {
    released.abort();
    await client
      .call("endSession", { params, body: { reason: "cancelled" } }, { timeoutMs: 3_000 })
      .catch(() => undefined);
    throw error;
  }
}

/** A manager that restarts is waited for; the queue is in its database. */
async function watch(
  client: ManagerClient,
  session: Session,
  { away, signal }: Pick<Waiting, "away" | "signal">,
): Promise<Session> {
  for (;;) {
    try {
      return await client.call(
        "watchSession",
        { params: { sessionId: session.id }, query: { revision: session.revision } },
        { signal, timeoutMs: 2 * TIMES.longPollMs },
      );
    } catch (error) {
      const isPassing =
        error instanceof FarpoolError &&
        (error.code === "FARPOOL_POOL_UNREACHABLE" || error.code === "FARPOOL_UNAVAILABLE");
      if (!isPassing) throw error;
      away();
      await sleep(300, undefined, { signal });
    }
  }
}

type EndListener = (reason: EndReason | null, message: string | null) => void;

function keep(
  client: ManagerClient,
  session: Session,
  signal: AbortSignal,
): { onEnded(listener: EndListener): void } {
  let ending: { reason: EndReason | null; message: string | null } | undefined;
  let listener: EndListener | undefined;
  const over = (reason: EndReason | null, message: string | null): void => {
    if (ending !== undefined || signal.aborted) return;
    ending = { reason, message };
    listener?.(reason, message);
  };

  async function hold(): Promise<void> {
    while (!signal.aborted && ending === undefined) {
      try {
        for await (const line of client.hold(session.id, signal)) {
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
  };
}

function refusedAfterWaiting(session: Session): FarpoolError {
  const message = session.endMessage ?? session.endReason?.replaceAll("-", " ") ?? "unknown reason";
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

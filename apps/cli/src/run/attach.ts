import type { ManagerClient } from "@farpool/client-api";
import { FarpoolError, type Session, type SessionId, type Thumbprint } from "@farpool/contract";
import { keep, whyEnded } from "./keep.ts";
import { connectionOf, questionsOf, untilActive, type SessionHandle, type Waiting } from "./session.ts";

/** Holds a reserved session that there is, for as long as something runs in it. */
export async function joinSession(
  client: ManagerClient,
  sessionId: SessionId,
  { clientKey, waiting }: { readonly clientKey: Thumbprint; readonly waiting: Waiting },
): Promise<SessionHandle> {
  const found = await client.call("showSession", { params: { sessionId } });
  requireJoinable(found, clientKey);
  const released = new AbortController();
  const keeper = keep(client, found, released.signal);
  try {
    const session = await untilActive(client, found, waiting);
    return {
      session,
      connection: await connectionOf(client, sessionId, waiting),
      goesOn: true,
      ...questionsOf(client, sessionId, released.signal),
      onEnded: keeper.onEnded,
      onNotice: keeper.onNotice,
      end() {
        released.abort();
        return Promise.resolve();
      },
    };
  } catch (error) {
    released.abort();
    throw error;
  }
}

function requireJoinable(session: Session, clientKey: Thumbprint): void {
  if (session.state === "ended") {
    const why = whyEnded(session.endReason, session.endMessage);
    throw new FarpoolError("FARPOOL_SESSION_ENDED", `session ${session.id} has ended: ${why}`);
  }
  if (session.purpose !== "reserve") {
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `session ${session.id} is not a reserved one, it belongs to process ${session.client.pid} on ${session.client.host}`,
      { hint: "'farpool reserve -n 1' makes one that programs can be attached to" },
    );
  }
  if (session.clientKey !== clientKey) {
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `session ${session.id} belongs to another client: its key is ${session.clientKey ?? "unknown"}, this client's is ${clientKey}`,
      { hint: `it was reserved by ${session.client.user} on ${session.client.host}; attach there` },
    );
  }
}

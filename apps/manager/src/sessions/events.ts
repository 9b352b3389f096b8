import type { SessionId, SessionState } from "@farpool/contract";
import type { Tx } from "../database/connect.ts";

/** Every change of a session's state is an event; usage records and the audit log are read from them. */
export async function recordEvent(tx: Tx, sessionId: SessionId, state: SessionState, reason: string): Promise<void> {
  await tx.insertInto("session_events").values({ session_id: sessionId, state, reason }).execute();
}

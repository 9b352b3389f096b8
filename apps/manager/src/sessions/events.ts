import type { SessionId, SessionState } from "@farpool/contract";
import type { Tx } from "../database/connect.ts";

interface SessionChange {
  readonly id: SessionId;
  readonly state: SessionState;
  readonly reason: string;
}

/** Every change of a session's state is an event; usage records and the audit log are read from them. */
export async function recordEvent(tx: Tx, { id, state, reason }: SessionChange): Promise<void> {
  await tx.insertInto("session_events").values({ session_id: id, state, reason }).execute();
}

import { FarpoolError, type Session, type SessionId } from "@farpool/contract";
import type { Database } from "../database/connect.ts";
import { postNotice } from "./notices.ts";
import { readSession } from "./read.ts";

/** Shows a text on the terminals that hold the session. */
export function messageSession(db: Database, id: SessionId, text: string): Promise<Session> {
  return db.transaction().execute(async (tx) => {
    const { state } = await readSession(tx, id);
    if (state === "ended")
      throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended, nobody would read it`);
    await postNotice(tx, { id, kind: "message", text });
    return readSession(tx, id);
  });
}

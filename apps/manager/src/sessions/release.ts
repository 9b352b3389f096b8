import { FarpoolError, type Session, type SessionId } from "@farpool/contract";
import type { Database } from "../database/connect.ts";
import { endSession } from "./end.ts";
import { readSession } from "./read.ts";

/** Gives the GPUs of a reserved session back. */
export async function releaseSession(db: Database, id: SessionId): Promise<Session> {
  const session = await readSession(db, id);
  if (session.state === "ended")
    throw new FarpoolError("FARPOOL_SESSION_ENDED", `the session ${id} has ended already`);
  if (session.purpose !== "reserve")
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `the session ${id} is not a reserved one, it ends with its program`,
      {
        hint: `'farpool sessions end ${id}' ends it nevertheless`,
      },
    );
  return endSession(db, id, { reason: "released", message: null });
}

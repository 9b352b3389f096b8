import type { SessionId, SessionNotice } from "@farpool/contract";
import { announce } from "../database/changes.ts";
import type { Database, Tx } from "../database/connect.ts";

/** Something to show to whoever holds the session; its hold streams are woken. */
export async function postNotice(
  tx: Tx,
  { id, kind, text }: { readonly id: SessionId; readonly kind: SessionNotice["kind"]; readonly text: string },
): Promise<void> {
  await tx.insertInto("session_notices").values({ session_id: id, kind, text }).execute();
  await tx
    .updateTable("sessions")
    .set((eb) => ({ revision: eb("revision", "+", 1) }))
    .where("id", "=", id)
    .execute();
  await announce(tx, `session/${id}`);
}

/** Those after a number, and the last number there is; null: none of those that are there. */
export async function readNotices(
  db: Database,
  id: SessionId,
  after: number | null,
): Promise<{ readonly notices: SessionNotice[]; readonly last: number }> {
  const all = db.selectFrom("session_notices").where("session_id", "=", id);
  if (after === null) {
    const row = await all.select((eb) => eb.fn.max("number").as("last")).executeTakeFirst();
    return { notices: [], last: row?.last ?? 0 };
  }
  const rows = await all.selectAll().where("number", ">", after).orderBy("number").limit(100).execute();
  return {
    notices: rows.map(({ number, at, kind, text }) => ({ number, at: at.toISOString(), kind, text })),
    last: rows.at(-1)?.number ?? after,
  };
}

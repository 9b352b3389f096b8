import {
  FarpoolError,
  type Client,
  type PublicKey,
  type SessionRequest,
  type Thumbprint,
} from "@farpool/contract";
import { thumbprintOf } from "@farpool/identity";
import { sql, type RawBuilder } from "kysely";
import { announce } from "../database/changes.ts";
import { inPlacement, now, type Database, type Tx } from "../database/connect.ts";
import { runPlacementPass } from "../placement/pass.ts";
import { endInPlacement } from "../sessions/end.ts";
import { readSession } from "../sessions/read.ts";
import type { KnownClient } from "../policies/situation.ts";
import { recordAudit } from "./audit.ts";

/** Grants for a key end within minutes of its revocation; until long after, servers are told of it. */
const TOLD_FOR_MS = 86_400_000;

/** A client asks for the first time: it is known from now on. */
export async function introduceClient(
  tx: Tx,
  key: PublicKey,
  { host, user }: SessionRequest["client"],
): Promise<void> {
  const thumbprint = thumbprintOf(key);
  const fresh = await tx
    .insertInto("clients")
    .values({ thumbprint, public_x: key.x, name: host, account: user })
    // Of two first requests at once the other has done it.
    .onConflict((conflict) => conflict.column("thumbprint").doNothing())
    .returning("thumbprint")
    .executeTakeFirst();
  if (fresh === undefined) return;
  await recordAudit(tx, {
    kind: "client-seen",
    clientKey: thumbprint,
    reason: `${user}@${host} has a new key`,
  });
}

export async function readTrust(db: Database, thumbprint: Thumbprint): Promise<KnownClient | undefined> {
  const row = await db
    .selectFrom("clients")
    .select(["revoked_at", "revoked_reason"])
    .where("thumbprint", "=", thumbprint)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return { revokedAt: row.revoked_at?.toISOString() ?? null, revokedReason: row.revoked_reason };
}

/** Who was revoked is refused, whatever it asks for. */
export function requireTrusted(thumbprint: Thumbprint, client: KnownClient | undefined): void {
  if (client === undefined || client.revokedAt === null) return;
  const why = client.revokedReason === null ? "" : `: ${client.revokedReason}`;
  throw new FarpoolError(
    "FARPOOL_NOT_PERMITTED",
    `this client (key ${thumbprint}) was revoked at ${new Date(client.revokedAt).toISOString()}${why}`,
    { hint: "an administrator of the pool did it; 'farpool admin clients list' shows it" },
  );
}

/**
 * Ends all sessions of a client and refuses new ones. One transaction under the placement lock: no session is
 * created between the two.
 */
export function revokeClient(db: Database, thumbprint: Thumbprint, reason: string | null): Promise<Client> {
  return inPlacement(db, async (tx) => {
    const [known] = await listClients(tx, thumbprint);
    if (known === undefined)
      throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no client with the key ${thumbprint}`, {
        hint: "'farpool admin clients list' lists them",
      });
    if (known.revokedAt !== null) return known;
    const why = reason === null ? "" : `: ${reason}`;
    await recordAudit(tx, {
      kind: "client-revoked",
      clientKey: thumbprint,
      reason: `${known.user}@${known.name} was revoked by an administrator${why}`,
    });
    await tx
      .updateTable("machines")
      .set({ revoked_at: now(), revoked_reason: `it was revoked by an administrator${why}` })
      .where("thumbprint", "=", thumbprint)
      .where("revoked_at", "is", null)
      .execute();
    const message = `the client ${known.name} was revoked by an administrator${why}`;
    await revokeInPlacement(tx, thumbprint, { reason, message });
    await runPlacementPass(tx);
    const [revoked] = await listClients(tx, thumbprint);
    return revoked ?? known;
  });
}

/** The key opens nothing any more, and what it holds ends. */
export async function revokeInPlacement(
  tx: Tx,
  thumbprint: Thumbprint,
  { reason, message }: { readonly reason: string | null; readonly message: string },
): Promise<void> {
  await tx
    .updateTable("clients")
    .set({ revoked_at: now(), revoked_reason: reason })
    .where("thumbprint", "=", thumbprint)
    .execute();
  const living = await tx
    .selectFrom("sessions")
    .select("id")
    .where("client_key", "=", thumbprint)
    .where("state", "<>", "ended")
    .execute();
  for (const { id } of living)
    await endInPlacement(tx, await readSession(tx, id), { reason: "revoked", message });
  await tellServers(tx);
}

/** What servers have to trust has changed: all agents are woken. */
async function tellServers(tx: Tx): Promise<void> {
  const servers = await tx
    .updateTable("servers")
    .set((eb) => ({ desired_revision: eb("desired_revision", "+", 1) }))
    .returning("id")
    .execute();
  for (const { id } of servers) await announce(tx, `server/${id}`);
}

/** Thumbprints and times of those whose grants servers must not believe any more, the newest first. */
export function revokedClients(): RawBuilder<unknown> {
  return sql`
    select thumbprint, revoked_at from clients
     where revoked_at > clock_timestamp() - ${TOLD_FOR_MS} * interval '1 millisecond'
     order by revoked_at desc limit 100000`;
}

export async function listClients(db: Database, only?: Thumbprint): Promise<Client[]> {
  const all = db
    .selectFrom("clients")
    .leftJoin("sessions", (join) =>
      join.onRef("sessions.client_key", "=", "clients.thumbprint").on("sessions.state", "<>", "ended"),
    )
    .selectAll("clients")
    .select(sql<number>`count(sessions.id)`.as("sessions"))
    .groupBy("clients.thumbprint")
    .orderBy("clients.name")
    .orderBy("clients.account")
    .orderBy("first_seen_at");
  const rows = await (only === undefined ? all : all.where("clients.thumbprint", "=", only)).execute();
  return rows.map((row) => ({
    thumbprint: row.thumbprint,
    name: row.name,
    user: row.account,
    firstSeenAt: row.first_seen_at.toISOString(),
    lastSeenAt: row.last_seen_at.toISOString(),
    revokedAt: row.revoked_at?.toISOString() ?? null,
    revokedReason: row.revoked_reason,
    sessions: row.sessions,
  }));
}

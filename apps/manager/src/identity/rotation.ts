import { FarpoolError, type AuthorityState } from "@farpool/contract";
import { createAuthority, WORKER_CERTIFICATE_SECONDS } from "@farpool/identity/certificates";
import { CLOCK_LEEWAY_SECONDS } from "@farpool/identity/grants";
import { sql } from "kysely";
import { inIdentity, type Database } from "../database/connect.ts";
import type { Principal } from "../http/principal.ts";
import type { Authorities, PoolAuthority } from "./authorities.ts";
import { recordAudit } from "./audit.ts";
import type { MachineParts } from "./machines.ts";

/** By then no worker shows a certificate of the one before any more. */
const DROP_AFTER_MS = (WORKER_CERTIFICATE_SECONDS + CLOCK_LEEWAY_SECONDS) * 1_000;
const DROP_LOOK_MS = 10_000;
/** By then every manager has looked, and tells sessions of a new authority. */
const KNOWN_AFTER_MS = 15_000;
/** So many machines are named. */
const MOST_NAMED = 20;

/**
 * A new authority, which is trusted from now on: machines get to know it when they renew their certificates, which they do as
 * soon as they hear of it. Nothing that they check is signed by it yet.
 */
export async function beginRotation(parts: MachineParts, by: Principal): Promise<Authorities> {
  const { db, identity, time } = parts;
  const at = await time();
  const { certificate, privateKey } = await createAuthority(identity.poolId, at);
  await inIdentity(db, async (tx) => {
    const { newest, presented, trusted } = await identity.refreshNow();
    const old = trusted.find(({ id }) => id < presented.id);
    if (old !== undefined)
      throw new FarpoolError(
        "FARPOOL_CONFLICT",
        `the authority before (${old.hash}) is still trusted: workers have certificates of it for a day`,
        { hint: "'farpool admin ca status' shows for how long" },
      );
    if (newest !== presented)
      throw new FarpoolError(
        "FARPOOL_CONFLICT",
        `a new authority (${newest.hash}) has been spreading since ${newest.createdAt.toISOString()} already`,
        {
          hint: "'farpool admin ca status' shows how far it is; 'farpool admin ca finish' lets it take over",
        },
      );
    const values = { certificate, private_key: privateKey, created_at: at, presented_at: null };
    await tx.insertInto("pool_authorities").values(values).execute();
    const reason = `${by.description} made a new certificate authority for the pool`;
    await recordAudit(tx, { kind: "authority-changed", reason, peer: by.peer });
  });
  return identity.refreshNow();
}

/** The new authority signs everything from now on. The old one is trusted until the last certificate of its workers is over. */
export async function finishRotation(
  parts: MachineParts,
  isForced: boolean,
  by: Principal,
): Promise<Authorities> {
  const { db, identity, time } = parts;
  const at = await time();
  await inIdentity(db, async (tx) => {
    const { newest, presented } = await identity.refreshNow();
    if (newest === presented)
      throw new FarpoolError("FARPOOL_CONFLICT", "there is no new authority that could take over", {
        hint: "'farpool admin ca rotate' makes one",
      });
    const progress = await readProgress(tx, newest);
    if (!isForced) requireDone(progress);
    await tx
      .updateTable("pool_authorities")
      .set({ presented_at: at })
      .where("id", "=", newest.id)
      .where("presented_at", "is", null)
      .execute();
    const without = progress.machines.total - progress.machines.renewed;
    const left = without === 0 ? "" : `, though ${without} machine(s) do not know it and have to join again`;
    const reason = `${by.description} let the new certificate authority take over${left}`;
    await recordAudit(tx, { kind: "authority-changed", reason, peer: by.peer });
  });
  return identity.refreshNow();
}

function requireDone({ machines, olderSessions }: Progress): void {
  const troubles: string[] = [];
  const missing = machines.total - machines.renewed;
  if (missing > 0) {
    const more = missing > machines.waiting.length ? ", …" : "";
    const names = `${machines.waiting.join(", ")}${more}`;
    troubles.push(`${missing} of ${machines.total} machine(s) do not know it yet (${names})`);
  }
  if (olderSessions > 0)
    troubles.push(
      `${olderSessions} session(s) began before it was there: new programs of theirs would be cut off`,
    );
  if (troubles.length === 0) return;
  throw new FarpoolError("FARPOOL_CONFLICT", `the new authority cannot take over: ${troubles.join("; ")}`, {
    hint: "machines that are on get to know it within minutes; 'farpool servers remove' and 'farpool clients remove' for those that are gone, or --force: the others have to join again",
  });
}

/** The authority before is trusted no longer, once nothing of it is about; its key is destroyed. */
async function dropOldAuthorities({ db, identity, time }: MachineParts): Promise<void> {
  const { trusted, presented } = identity.authorities();
  const older = trusted.filter(({ id }) => id < presented.id);
  if (older.length === 0 || presented.presentedAt === null) return;
  const at = await time();
  if (at.getTime() - presented.presentedAt.getTime() < DROP_AFTER_MS) return;
  for (const { id, hash } of older) {
    const dropped = await db
      .updateTable("pool_authorities")
      .set({ dropped_at: at, private_key: null })
      .where("id", "=", id)
      .where("dropped_at", "is", null)
      .returning("id")
      .executeTakeFirst();
    // Of several managers one tells.
    if (dropped === undefined) continue;
    const reason = `the certificate authority ${hash} is trusted no longer; its key is destroyed`;
    await recordAudit(db, { kind: "authority-changed", reason });
  }
  await identity.refreshNow();
}

/** Looks now and then whether it is time: a machine that sleeps misses timers. */
export function keepDropping(parts: MachineParts, onError: (error: unknown) => void): { stop(): void } {
  const timer = setInterval(() => void dropOldAuthorities(parts).catch(onError), DROP_LOOK_MS);
  timer.unref();
  return { stop: () => clearInterval(timer) };
}

type Progress = Pick<NonNullable<AuthorityState["rotation"]>, "machines" | "olderSessions">;

/** Whom `newest` has signed a certificate for that was shown since: its answer has arrived, and what is trusted with it. */
async function readProgress(db: Database, newest: PoolAuthority): Promise<Progress> {
  const { rows } = await sql<{ total: number; renewed: number; waiting: string[] | null; older: number }>`
    with machine as (
      select role || ' ' || name as name, authority_id = ${newest.id} and serial_used_at is not null as knows
        from machines where revoked_at is null
    )
    select count(*)::integer as total, count(*) filter (where knows)::integer as renewed,
      (select json_agg(name order by name) from (
         select name from machine where knows is not true order by name limit ${MOST_NAMED}::integer) waiting) as waiting,
      (select count(*)::integer from sessions
        where state in ('granted', 'active') and granted_at < ${new Date(newest.createdAt.getTime() + KNOWN_AFTER_MS)}) as older
      from machine`.execute(db);
  const [row] = rows;
  const { total = 0, renewed = 0, waiting = null, older = 0 } = row ?? {};
  return { machines: { total, renewed, waiting: waiting ?? [] }, olderSessions: older };
}

/** Which authorities there are, until when, and how far the newer is with taking over. */
export async function readAuthorityState(
  { db, identity }: Pick<MachineParts, "db" | "identity">,
  managerCertificateExpiresAt: Date,
): Promise<AuthorityState> {
  const { trusted, presented, newest } = await identity.refresh();
  const isSpreading = newest !== presented;
  const older = trusted.filter(({ id }) => id < presented.id);
  const dropsAt =
    older.length === 0 || presented.presentedAt === null
      ? null
      : new Date(presented.presentedAt.getTime() + DROP_AFTER_MS).toISOString();
  return {
    authorities: trusted.map((each) => ({
      sha256: each.hash,
      createdAt: each.createdAt.toISOString(),
      expiresAt: each.authority.certificate.notAfter.toISOString(),
      role: each === presented ? "presented" : each.id > presented.id ? "spreading" : "retiring",
    })),
    rotation:
      isSpreading || dropsAt !== null
        ? {
            phase: isSpreading ? "spreading" : "retiring",
            since: (isSpreading
              ? newest.createdAt
              : (presented.presentedAt ?? newest.createdAt)
            ).toISOString(),
            ...(await readProgress(db, newest)),
            dropsAt,
          }
        : null,
    managerCertificateExpiresAt: managerCertificateExpiresAt.toISOString(),
  };
}

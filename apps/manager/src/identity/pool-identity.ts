import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { FarpoolError } from "@farpool/contract";
import { exportSigningKey, generateSigningKey, importSigningKey, type SigningKey } from "@farpool/identity";
import { createAuthority } from "@farpool/identity/certificates";
import { sql } from "kysely";
import { inIdentity, type Database, type Tx } from "../database/connect.ts";
import { openAuthorities, type Authorities } from "./authorities.ts";

/** How often a manager looks whether another one has changed the authorities. */
const LOOK_MS = 10_000;
/** Whoever shows certificates of nobody does not make us look at the database each time. */
const LEAST_MS = 500;

/** What a pool proves itself with: the same in every manager of one database. */
export interface PoolIdentity {
  readonly poolId: string;
  /** Signs session grants. */
  readonly grantKey: SigningKey;
  /** As this manager knows them now: one may take over from another. */
  authorities(): Authorities;
  /** Looks again: at once, or a moment after the last look, for all who ask until then. */
  refresh(): Promise<Authorities>;
  /** Looks in any case. */
  refreshNow(): Promise<Authorities>;
  /** Tells of every change, until `stop`. */
  onChanged(listener: (authorities: Authorities) => Promise<void>): void;
  stop(): void;
}

/** Reads the pool's keys, or makes them: once, whichever manager comes first. */
export async function openPoolIdentity(
  db: Database,
  onError: (error: unknown) => void,
): Promise<PoolIdentity> {
  const first = await inIdentity(db, async (tx) => {
    const row =
      (await tx.selectFrom("pool_identity").selectAll().executeTakeFirst()) ?? (await createIdentity(tx));
    return { poolId: row.pool_id, grantKey: await openGrantKey(tx), authorities: await openAuthorities(tx) };
  });
  let known = requireAuthority(first.authorities);
  let lookedAt = performance.now();
  const listeners: Array<(authorities: Authorities) => Promise<void>> = [];

  let [begun, applied] = [0, 0];
  let next: Promise<Authorities> | undefined;

  async function look(): Promise<Authorities> {
    lookedAt = performance.now();
    begun += 1;
    const number = begun;
    const read = await openAuthorities(db, known);
    // What a later look has found stays.
    if (number < applied || read === undefined || read.mark === known.mark) return known;
    applied = number;
    known = read;
    for (const listener of listeners) await listener(known);
    return known;
  }

  async function lookSoon(): Promise<Authorities> {
    await sleep(Math.max(0, lookedAt + LEAST_MS - performance.now()));
    // Who asks from here on may know of something that this look does not find.
    next = undefined;
    return look();
  }

  const timer = setInterval(() => void look().catch(onError), LOOK_MS);
  timer.unref();
  return {
    poolId: first.poolId,
    grantKey: first.grantKey,
    authorities: () => known,
    refresh: () => (next ??= lookSoon()),
    refreshNow: look,
    onChanged: (listener) => void listeners.push(listener),
    stop: () => clearInterval(timer),
  };
}

function requireAuthority(authorities: Authorities | undefined): Authorities {
  if (authorities !== undefined) return authorities;
  throw new FarpoolError("FARPOOL_INTERNAL", "the pool has no certificate authority that is in use", {
    hint: "the table pool_authorities has been changed by hand: restore it from a backup",
  });
}

async function createIdentity(tx: Tx) {
  const poolId = randomUUID();
  const now = await databaseTime(tx);
  const { certificate, privateKey } = await createAuthority(poolId, now);
  const values = { certificate, private_key: privateKey, created_at: now, presented_at: now };
  await tx.insertInto("pool_authorities").values(values).execute();
  return tx.insertInto("pool_identity").values({ pool_id: poolId }).returningAll().executeTakeFirstOrThrow();
}

async function openGrantKey(tx: Tx): Promise<SigningKey> {
  const newest = await tx
    .selectFrom("grant_keys")
    .select("private_key")
    .orderBy("created_at", "desc")
    .executeTakeFirst();
  if (newest !== undefined) return importSigningKey(newest.private_key);
  const key = generateSigningKey();
  const { thumbprint, publicKey } = key;
  const values = { thumbprint, public_x: publicKey.x, private_key: exportSigningKey(key) };
  await tx.insertInto("grant_keys").values(values).execute();
  return key;
}

/** Managers on several machines sign by one clock. */
export async function databaseTime(db: Database): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("the database does not know the time");
  return row.now;
}

import { randomUUID } from "node:crypto";
import { publicKeySchema, type ManagerKey } from "@farpool/contract";
import { exportSigningKey, generateSigningKey, importSigningKey, type SigningKey } from "@farpool/identity";
import { authorityDer, createAuthority, openAuthority, type Authority } from "@farpool/identity/certificates";
import { sql } from "kysely";
import { inIdentity, type Database, type Tx } from "../database/connect.ts";

/** What a pool proves itself with: the same in every manager of one database. */
export interface PoolIdentity {
  readonly poolId: string;
  readonly authority: Authority;
  /** DER, base64: for those who check certificates. */
  readonly authorities: readonly string[];
  /** Signs session grants. */
  readonly grantKey: SigningKey;
}

/** Reads the pool's keys, or makes them: once, whichever manager comes first. */
export function openPoolIdentity(db: Database): Promise<PoolIdentity> {
  return inIdentity(db, async (tx) => {
    const row =
      (await tx.selectFrom("pool_identity").selectAll().executeTakeFirst()) ?? (await createIdentity(tx));
    const authority = await openAuthority({
      certificate: row.authority_certificate,
      privateKey: row.authority_key,
    });
    return {
      poolId: row.pool_id,
      authority,
      authorities: [authorityDer(authority)],
      grantKey: await openGrantKey(tx),
    };
  });
}

async function createIdentity(tx: Tx) {
  const poolId = randomUUID();
  const { certificate, privateKey } = await createAuthority(poolId, await databaseTime(tx));
  const values = { pool_id: poolId, authority_certificate: certificate, authority_key: privateKey };
  return tx.insertInto("pool_identity").values(values).returningAll().executeTakeFirstOrThrow();
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

/** The keys that servers trust: all of the database's, since another manager may sign with a newer one. */
export async function readManagerKeys(db: Database): Promise<ManagerKey[]> {
  const rows = await db
    .selectFrom("grant_keys")
    .select(["thumbprint", "public_x"])
    .orderBy("created_at", "desc")
    .execute();
  return rows.map((row) => ({ kid: row.thumbprint, x: publicKeySchema.shape.x.parse(row.public_x) }));
}

/** Managers on several machines sign by one clock. */
export async function databaseTime(db: Database): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`select clock_timestamp() as now`.execute(db);
  const [row] = rows;
  if (row === undefined) throw new Error("the database does not know the time");
  return row.now;
}

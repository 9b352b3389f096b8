import { X509Certificate } from "node:crypto";
import { authorityDer, authorityHash, openAuthority, type Authority } from "@farpool/identity/certificates";
import type { Selectable } from "kysely";
import type { Database } from "../database/connect.ts";
import type { PoolAuthoritiesTable } from "../database/schema-identity.ts";

/** A certificate authority of the pool that is in use. */
export interface PoolAuthority {
  readonly id: number;
  readonly authority: Authority;
  readonly certificate: X509Certificate;
  /** As join strings name it. */
  readonly hash: string;
  readonly createdAt: Date;
  readonly presentedAt: Date | null;
}

/**
 * One authority, or two while the newer takes over. Until every machine trusts the newer, what machines check is signed by the
 * older: managers' and workers' certificates. Machines' own, which only managers check, are signed by the newer at once.
 */
export interface Authorities {
  /** Different whenever anything of this is. */
  readonly mark: string;
  /** All, the one that is presented first. */
  readonly trusted: readonly PoolAuthority[];
  /** Signs what machines check. */
  readonly presented: PoolAuthority;
  /** Signs machines' certificates. */
  readonly newest: PoolAuthority;
  /** PEM, for those who trust managers. */
  readonly bundle: string;
  /** DER, base64, for those who trust workers. */
  readonly ders: readonly string[];
}

/** What the database has; keys that are known are not opened again. */
export async function openAuthorities(db: Database, known?: Authorities): Promise<Authorities | undefined> {
  const rows = await db
    .selectFrom("pool_authorities")
    .selectAll()
    .where("dropped_at", "is", null)
    .orderBy("id")
    .execute();
  const mark = rows.map((row) => `${row.id}:${row.presented_at?.getTime() ?? "-"}`).join(" ");
  if (known?.mark === mark) return known;
  const all = await Promise.all(rows.map((row) => open(row)));
  const presented = all.findLast(({ presentedAt }) => presentedAt !== null);
  const newest = all.at(-1);
  if (presented === undefined || newest === undefined) return undefined;
  const trusted = [presented, ...all.filter((each) => each !== presented)];
  return {
    ...{ mark, trusted, presented, newest },
    bundle: trusted.map(({ certificate }) => certificate.toString()).join(""),
    ders: trusted.map(({ authority }) => authorityDer(authority)),
  };
}

async function open(row: Selectable<PoolAuthoritiesTable>): Promise<PoolAuthority> {
  if (row.private_key === null) throw new Error(`the authority ${row.id} is in use and has no key`);
  const authority = await openAuthority({ certificate: row.certificate, privateKey: row.private_key });
  return {
    id: row.id,
    authority,
    certificate: new X509Certificate(row.certificate),
    hash: authorityHash(new Uint8Array(authority.certificate.rawData)),
    createdAt: row.created_at,
    presentedAt: row.presented_at,
  };
}

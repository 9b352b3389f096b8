import { randomUUID } from "node:crypto";
import {
  FarpoolError,
  formatJoinString,
  parsePlace,
  type createdJoinTokenSchema,
  type JoinToken,
  type joinTokenRequestSchema,
} from "@farpool/contract";
import type { Selectable } from "kysely";
import type * as z from "zod";
import { now, type Database } from "../database/connect.ts";
import type { JoinTokensTable } from "../database/schema-identity.ts";
import type { Principal } from "../http/principal.ts";
import { recordAudit } from "./audit.ts";
import { hashSecret, newSecret } from "./secrets.ts";

export interface Place {
  readonly host: string;
  readonly port: number;
}

/** Where machines and people reach this manager, and by what they recognise it. */
export interface PublicDoor {
  /** Null: it listens on its Unix socket only. */
  readonly place: Place | null;
  readonly authorityHash: string;
}

export interface DoorParts {
  readonly db: Database;
  readonly door: PublicDoor;
}

export function placeFor(door: PublicDoor, url: string | null): Place {
  if (url !== null) {
    const place = parsePlace(url);
    if (place !== undefined) return place;
    throw new FarpoolError("FARPOOL_BAD_REQUEST", `'${url}' is not the address of a manager`, {
      hint: "addresses look like https://HOST:7443",
    });
  }
  if (door.place !== null) return door.place;
  throw new FarpoolError("FARPOOL_CONFLICT", "this manager listens on its Unix socket only", {
    hint: "'farpool up --listen ADDRESS' lets other machines in; --url names an address that leads here",
  });
}

type Request = z.output<typeof joinTokenRequestSchema>;

export async function createJoinToken(
  { db, door, time }: DoorParts & { readonly time: () => Promise<Date> },
  { role, uses, validSeconds, url }: Request,
  by: Principal,
): Promise<z.output<typeof createdJoinTokenSchema>> {
  const place = placeFor(door, url);
  const secret = newSecret();
  const row = await db
    .insertInto("join_tokens")
    .values({
      id: randomUUID(),
      secret_hash: hashSecret(secret),
      role,
      uses,
      uses_left: uses,
      created_by: by.description,
      expires_at: new Date((await time()).getTime() + validSeconds * 1_000),
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  const reason = `${by.description} made the join token ${row.id} for ${uses} ${role}(s)`;
  await recordAudit(db, { kind: "token-changed", reason, peer: by.peer });
  return {
    ...present(row),
    join: formatJoinString({ ...place, role, authorityHash: door.authorityHash, secret }),
  };
}

export async function listJoinTokens(db: Database): Promise<JoinToken[]> {
  const rows = await db.selectFrom("join_tokens").selectAll().orderBy("created_at", "desc").execute();
  return rows.map(present);
}

export async function revokeJoinToken(db: Database, id: string, by: Principal): Promise<JoinToken> {
  const row = await db
    .updateTable("join_tokens")
    .set((eb) => ({ revoked_at: eb.fn.coalesce("revoked_at", now()) }))
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
  if (row === undefined)
    throw new FarpoolError("FARPOOL_NOT_FOUND", `there is no join token ${id}`, {
      hint: "'farpool admin tokens list' lists them",
    });
  const reason = `${by.description} revoked the join token ${id}`;
  await recordAudit(db, { kind: "token-changed", reason, peer: by.peer });
  return present(row);
}

function present(row: Selectable<JoinTokensTable>): JoinToken {
  return {
    id: row.id,
    role: row.role,
    uses: row.uses,
    usesLeft: row.uses_left,
    createdBy: row.created_by,
    createdAt: row.created_at.toISOString(),
    expiresAt: row.expires_at.toISOString(),
    revokedAt: row.revoked_at?.toISOString() ?? null,
  };
}

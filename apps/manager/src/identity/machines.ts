import { randomUUID, verify } from "node:crypto";
import {
  FarpoolError,
  formatDuration,
  joinProof,
  type joinRequestSchema,
  type Machine,
  type MachineCertificate,
  type MachineRole,
  type PublicKey,
} from "@farpool/contract";
import { thumbprintOf } from "@farpool/identity";
import {
  MACHINE_CERTIFICATE_SECONDS,
  nodePublicKey,
  signMachineCertificate,
} from "@farpool/identity/certificates";
import { sql, type Selectable } from "kysely";
import type * as z from "zod";
import type { Database, Tx } from "../database/connect.ts";
import type { JoinTokensTable, MachinesTable } from "../database/schema-identity.ts";
import type { MachinePrincipal } from "../http/principal.ts";
import { countFailure, requireFewFailures } from "./attempts.ts";
import { recordAudit } from "./audit.ts";
import type { PoolIdentity } from "./pool-identity.ts";
import { hashSecret } from "./secrets.ts";

/** An address from which so many joins have failed waits. */
const FAILED_JOINS = 20;

type MachineRow = Selectable<MachinesTable>;
type JoinRequest = z.output<typeof joinRequestSchema>;

/** What joining and renewing go by; tests let days pass. */
export interface MachineParts {
  readonly db: Database;
  readonly identity: PoolIdentity;
  readonly time: () => Promise<Date>;
}

/** A machine with a good token gets a certificate for its key. The same key again is the same machine. */
export async function joinPool(
  { db, identity, time }: MachineParts,
  request: JoinRequest,
  peer: string,
): Promise<MachineCertificate> {
  const limits = [{ subject: `join from ${peer}`, most: FAILED_JOINS }];
  await requireFewFailures(db, limits);
  const at = await time();
  try {
    return await db.transaction().execute((tx) => join(tx, { identity, request, peer, at }));
  } catch (error) {
    if (error instanceof FarpoolError) {
      await countFailure(db, limits);
      await recordAudit(db, { kind: "join-refused", reason: `'${request.name}': ${error.message}`, peer });
    }
    throw error;
  }
}

interface Joining {
  readonly identity: PoolIdentity;
  readonly request: JoinRequest;
  readonly peer: string;
  readonly at: Date;
}

async function join(tx: Tx, { identity, request, peer, at }: Joining): Promise<MachineCertificate> {
  const { publicKey, name, labels } = request;
  const isProved = verify(
    null,
    joinProof(request.secret),
    nodePublicKey(publicKey),
    Buffer.from(request.proof, "base64url"),
  );
  if (!isProved)
    throw new FarpoolError("FARPOOL_NOT_PERMITTED", "the machine has not proved to hold the key it names");
  const token = await tx
    .selectFrom("join_tokens")
    .selectAll()
    .where("secret_hash", "=", hashSecret(request.secret))
    .forUpdate()
    .executeTakeFirst();
  const { id: tokenId, role } = requireUsable(token, request.role, at);
  await tx
    .updateTable("join_tokens")
    .set((eb) => ({ uses_left: eb("uses_left", "-", 1) }))
    .where("id", "=", tokenId)
    .execute();
  const thumbprint = thumbprintOf(publicKey);
  const known = await tx
    .selectFrom("machines")
    .selectAll()
    .where("thumbprint", "=", thumbprint)
    .executeTakeFirst();
  if (known !== undefined) requireSame(known, role);
  const machineId = known?.id ?? randomUUID();
  await requireFreeName(tx, { role, name, machineId });
  const { newest } = identity.authorities();
  const signed = await signMachineCertificate(newest.authority, { machineId, role, publicKey, now: at });
  const values = {
    authority_id: newest.id,
    name,
    labels: JSON.stringify(labels),
    join_token_id: tokenId,
    last_seen_at: at,
    serial: signed.serial,
    previous_serial: known?.serial ?? null,
    serial_used_at: null,
    certificate_expires_at: signed.expiresAt,
  };
  if (known === undefined) {
    const fresh = { id: machineId, role, thumbprint, public_x: publicKey.x, joined_at: at };
    await tx
      .insertInto("machines")
      .values({ ...fresh, ...values })
      .execute();
  } else await tx.updateTable("machines").set(values).where("id", "=", machineId).execute();
  if (role === "client") await introduceClient(tx, publicKey, name);
  const clientKey = role === "client" ? thumbprint : null;
  const reason = `the ${role} ${name} (${machineId}) joined with the token ${tokenId}`;
  await recordAudit(tx, { kind: "machine-joined", reason, peer, clientKey });
  return answer(identity, { machineId, role, name }, signed.certificate);
}

function requireUsable(
  token: Selectable<JoinTokensTable> | undefined,
  wanted: MachineRole | null,
  at: Date,
): Selectable<JoinTokensTable> {
  const refuse = (why: string): FarpoolError =>
    new FarpoolError("FARPOOL_NOT_PERMITTED", `the join token ${why}`, {
      hint: "'farpool admin tokens create' on the manager's machine makes another",
    });
  if (token === undefined) throw refuse("is not known to this pool");
  if (token.revoked_at !== null) throw refuse(`was revoked at ${token.revoked_at.toISOString()}`);
  if (token.expires_at <= at) {
    const ago = formatDuration(at.getTime() - token.expires_at.getTime());
    throw refuse(`expired at ${token.expires_at.toISOString()}, ${ago} ago`);
  }
  if (token.uses_left === 0) throw refuse(`has been used up: it was for ${token.uses} machine(s)`);
  if (wanted !== null && wanted !== token.role) throw refuse(`is for a ${token.role}, not for a ${wanted}`);
  return token;
}

function requireSame(known: MachineRow, role: MachineRole): void {
  if (known.revoked_at !== null)
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `this machine's key was revoked at ${known.revoked_at.toISOString()} (${known.revoked_reason ?? "no reason was given"})`,
      { hint: "remove its key file; it joins with a new one" },
    );
  if (known.role !== role)
    throw new FarpoolError("FARPOOL_CONFLICT", `this key is the ${known.role} ${known.name}'s already`);
}

async function requireFreeName(
  tx: Tx,
  { role, name, machineId }: { role: MachineRole; name: string; machineId: string },
): Promise<void> {
  const other = await tx
    .selectFrom("machines")
    .select("id")
    .where("role", "=", role)
    .where(sql<string>`lower(name)`, "=", name.toLowerCase())
    .where("revoked_at", "is", null)
    .where("id", "<>", machineId)
    .executeTakeFirst();
  if (other === undefined) return;
  throw new FarpoolError("FARPOOL_CONFLICT", `the pool has a ${role} '${name}' already (${other.id})`, {
    hint: `--name chooses another name; if that machine is gone, 'farpool ${role}s remove ${name}' makes room`,
  });
}

/** So that it is listed before its first session. */
async function introduceClient(tx: Tx, publicKey: PublicKey, name: string): Promise<void> {
  await tx
    .insertInto("clients")
    .values({ thumbprint: thumbprintOf(publicKey), public_x: publicKey.x, name, account: "-" })
    .onConflict((conflict) => conflict.column("thumbprint").doUpdateSet({ name }))
    .execute();
}

/**
 * Renews what the connection shows. Of two machines with one identity the one that renews second shows a certificate
 * whose successor is in use already: it is refused.
 */
export async function renewMachine(
  { db, identity, time }: MachineParts,
  machine: MachinePrincipal,
  peer: string,
): Promise<MachineCertificate> {
  const at = await time();
  const outcome = await db.transaction().execute(async (tx) => {
    const row = await tx
      .selectFrom("machines")
      .selectAll()
      .where("id", "=", machine.id)
      .forUpdate()
      .executeTakeFirstOrThrow();
    const isNewest = row.serial === machine.serial;
    // The answer to the renewal before may have been lost: nobody has shown that certificate.
    const isRepeated = row.previous_serial === machine.serial && row.serial_used_at === null;
    if (!isNewest && !isRepeated) return { clonedFrom: row };
    const { id: machineId, role, name } = row;
    const publicKey = { kty: "OKP", crv: "Ed25519", x: row.public_x } as const;
    const { newest } = identity.authorities();
    const signed = await signMachineCertificate(newest.authority, { machineId, role, publicKey, now: at });
    await tx
      .updateTable("machines")
      .set((eb) => ({
        certificates: eb("certificates", "+", 1),
        serial: signed.serial,
        authority_id: newest.id,
        previous_serial: machine.serial,
        serial_used_at: null,
        certificate_expires_at: signed.expiresAt,
        last_seen_at: at,
      }))
      .where("id", "=", machineId)
      .execute();
    return { certificate: answer(identity, { machineId, role, name }, signed.certificate) };
  });
  if (outcome.certificate !== undefined) return outcome.certificate;
  const { role, name, certificates } = outcome.clonedFrom;
  const sentence = `the certificate ${machine.serial} of the ${role} ${name} was renewed by another machine, which has had ${certificates} by now: this one is a copy of it`;
  const clientKey = role === "client" ? machine.thumbprint : null;
  await recordAudit(db, { kind: "machine-cloned", reason: sentence, peer, clientKey });
  throw new FarpoolError("FARPOOL_CERTIFICATE", sentence, {
    hint: "'farpool leave --forget' removes the copied identity here; then 'farpool join' gives this machine its own",
  });
}

function answer(
  { poolId, authorities }: PoolIdentity,
  machine: Pick<MachineCertificate, "machineId" | "role" | "name">,
  certificate: string,
): MachineCertificate {
  return {
    ...machine,
    poolId,
    certificate,
    authority: authorities().bundle,
    validSeconds: MACHINE_CERTIFICATE_SECONDS,
  };
}

export async function listMachines(db: Database | Tx, only?: string): Promise<Machine[]> {
  const all = db.selectFrom("machines").selectAll().orderBy("role").orderBy("name").orderBy("joined_at");
  const rows = await (only === undefined ? all : all.where("id", "=", only)).execute();
  return rows.map((row) => ({
    id: row.id,
    role: row.role,
    name: row.name,
    labels: row.labels,
    thumbprint: row.thumbprint,
    joinedAt: row.joined_at.toISOString(),
    lastSeenAt: row.last_seen_at.toISOString(),
    certificates: row.certificates,
    certificateExpiresAt: row.certificate_expires_at.toISOString(),
    revokedAt: row.revoked_at?.toISOString() ?? null,
    revokedReason: row.revoked_reason,
  }));
}

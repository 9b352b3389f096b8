import { FarpoolError, formatDuration } from "@farpool/contract";
import { RENEWABLE_AFTER_EXPIRY_SECONDS, type ShownCertificate } from "@farpool/identity/certificates";
import type { MachinePrincipal } from "../http/principal.ts";
import type { MachineParts } from "./machines.ts";

/** How exactly it is known when a machine was here last; each time costs a write. */
const SEEN_MS = 60_000;

/** Whose certificate this is, if it is good for what is asked: an expired one is good for its renewal only. */
export async function recogniseMachine(
  { db, time }: Pick<MachineParts, "db" | "time">,
  shown: ShownCertificate,
  isRenewal: boolean,
): Promise<MachinePrincipal> {
  const row = await db
    .selectFrom("machines")
    .selectAll()
    .where("id", "=", shown.machineId)
    .where("role", "=", shown.role)
    .executeTakeFirst();
  if (row === undefined)
    throw certificateError(`the ${shown.role} ${shown.machineId} is not known to this pool`);
  if (row.revoked_at !== null) {
    const why = row.revoked_reason === null ? "" : `: ${row.revoked_reason}`;
    throw certificateError(
      `the ${row.role} ${row.name} was revoked at ${row.revoked_at.toISOString()}${why}`,
    );
  }
  const at = await time();
  requireTime(shown, { at, isRenewal, name: `${row.role} ${row.name}` });
  const isFirstUse = row.serial === shown.serial && row.serial_used_at === null;
  if (isFirstUse || at.getTime() - row.last_seen_at.getTime() > SEEN_MS) {
    const used = isFirstUse ? { serial_used_at: at } : {};
    await db
      .updateTable("machines")
      .set({ last_seen_at: at, ...used })
      .where("id", "=", row.id)
      .execute();
  }
  return {
    id: row.id,
    role: row.role,
    name: row.name,
    thumbprint: row.thumbprint,
    serial: shown.serial,
    certificateExpiresAt: shown.expiresAt,
  };
}

function requireTime(
  { beginsAt, expiresAt }: ShownCertificate,
  { at, isRenewal, name }: { at: Date; isRenewal: boolean; name: string },
): void {
  const away = (from: Date, to: Date): string => formatDuration(Math.abs(to.getTime() - from.getTime()));
  if (at < beginsAt)
    throw certificateError(
      `the certificate of the ${name} begins in ${away(at, beginsAt)}, at ${beginsAt.toISOString()}: a clock is wrong`,
    );
  if (at <= expiresAt) return;
  const sentence = `the certificate of the ${name} expired at ${expiresAt.toISOString()}, ${away(expiresAt, at)} ago`;
  const isRenewable = at.getTime() - expiresAt.getTime() <= RENEWABLE_AFTER_EXPIRY_SECONDS * 1_000;
  if (!isRenewable)
    throw certificateError(
      `${sentence}; it could be renewed for ${RENEWABLE_AFTER_EXPIRY_SECONDS / 86_400} days`,
      "'farpool join' with a new token brings this machine back",
    );
  if (!isRenewal) throw certificateError(sentence, "any 'farpool' command on that machine renews it");
}

function certificateError(sentence: string, hint?: string): FarpoolError {
  return new FarpoolError("FARPOOL_CERTIFICATE", sentence, hint === undefined ? {} : { hint });
}

import type { PrivacySettings, privacyChangeSchema } from "@farpool/contract";
import { sql, type RawBuilder } from "kysely";
import type * as z from "zod";
import type { Database } from "../database/connect.ts";
import { recordAudit } from "../identity/audit.ts";
import type { Principal } from "../http/principal.ts";

export async function readPrivacy(db: Database): Promise<PrivacySettings> {
  const row = await db.selectFrom("privacy_settings").selectAll().executeTakeFirstOrThrow();
  return { tellsPrograms: row.tells_programs, tellsAccounts: row.tells_accounts };
}

/** What is not given stays. Names that were stored before stay stored; reports do not tell them while it is off. */
export async function changePrivacy(
  db: Database,
  { tellsPrograms, tellsAccounts }: z.output<typeof privacyChangeSchema>,
  by: Principal,
): Promise<PrivacySettings> {
  const values = {
    ...(tellsPrograms !== undefined && { tells_programs: tellsPrograms }),
    ...(tellsAccounts !== undefined && { tells_accounts: tellsAccounts }),
  };
  if (Object.keys(values).length > 0) {
    await db.updateTable("privacy_settings").set(values).execute();
    const words = [
      ...(tellsPrograms === undefined ? [] : [`program names ${tellsPrograms ? "on" : "off"}`]),
      ...(tellsAccounts === undefined ? [] : [`account names ${tellsAccounts ? "on" : "off"}`]),
    ];
    const reason = `${by.description} switched ${words.join(" and ")} in reports`;
    await recordAudit(db, { kind: "policy-changed", reason, peer: by.peer });
  }
  return readPrivacy(db);
}

/** A program's name as it is stored: not at all while the pool does not tell them. */
export function storedProgram(program: string | null): RawBuilder<string | null> {
  return sql<string | null>`(select ${program}::text from privacy_settings where tells_programs)`;
}

/** How reports name somebody of whom a client has reported an account, when accounts are not told. */
export const someoneAt = (client: string): string => `*@${client}`;

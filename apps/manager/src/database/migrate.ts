import { FarpoolError, VERSION } from "@farpool/contract";
import { sql, type Kysely } from "kysely";
import { Migrator } from "kysely/migration";
import * as pool from "./migration-0001-pool.ts";
import * as identity from "./migration-0002-identity.ts";
import * as workerSandbox from "./migration-0003-worker-sandbox.ts";
import * as scheduling from "./migration-0004-scheduling.ts";
import * as policies from "./migration-0005-policies.ts";
import * as joining from "./migration-0006-joining.ts";
import * as usage from "./migration-0007-usage.ts";
import * as hostFacts from "./migration-0008-host-facts.ts";
import * as authorities from "./migration-0009-authorities.ts";
import * as privacy from "./migration-0010-privacy.ts";
import * as oidc from "./migration-0011-oidc.ts";
import * as gpuAttributes from "./migration-0012-gpu-attributes.ts";
import * as spreadSessions from "./migration-0013-spread-sessions.ts";
import type { Schema } from "./schema.ts";

const MIGRATIONS = {
  "0001-pool": pool,
  "0002-identity": identity,
  "0003-worker-sandbox": workerSandbox,
  "0004-scheduling": scheduling,
  "0005-policies": policies,
  "0006-joining": joining,
  "0007-usage": usage,
  "0008-host-facts": hostFacts,
  "0009-authorities": authorities,
  "0010-privacy": privacy,
  "0011-oidc": oidc,
  "0012-gpu-attributes": gpuAttributes,
  "0013-spread-sessions": spreadSessions,
};

/**
 * Brings the database up to date. Kysely holds an advisory lock meanwhile: managers starting at once take turns. One that a
 * newer manager has changed is left alone.
 */
export async function migrate(db: Kysely<Schema>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(MIGRATIONS) } });
  const unknown = (await doneMigrations(db)).find((name) => !(name in MIGRATIONS));
  if (unknown !== undefined)
    throw new FarpoolError(
      "FARPOOL_CONFLICT",
      `the database has the change ${unknown}, which this manager (${VERSION}) does not know: a newer one has used it`,
      { hint: "run that version again; going back to an older one takes a backup from before" },
    );
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw new Error("the database cannot be brought up to date", { cause: error });
}

/** Empty where the table is not there yet. */
async function doneMigrations(db: Kysely<Schema>): Promise<string[]> {
  const table = await sql<{
    found: string | null;
  }>`select to_regclass('kysely_migration')::text as found`.execute(db);
  if ((table.rows[0]?.found ?? null) === null) return [];
  const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name desc`.execute(
    db,
  );
  return rows.map(({ name }) => name);
}

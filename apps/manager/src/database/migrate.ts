import type { Kysely } from "kysely";
import { Migrator } from "kysely/migration";
import * as pool from "./migration-0001-pool.ts";
import * as identity from "./migration-0002-identity.ts";
import * as workerSandbox from "./migration-0003-worker-sandbox.ts";
import * as scheduling from "./migration-0004-scheduling.ts";
import * as policies from "./migration-0005-policies.ts";
import * as usage from "./migration-0007-usage.ts";
import * as hostFacts from "./migration-0008-host-facts.ts";
import type { Schema } from "./schema.ts";

const MIGRATIONS = {
  "0001-pool": pool,
  "0002-identity": identity,
  "0003-worker-sandbox": workerSandbox,
  "0004-scheduling": scheduling,
  "0005-policies": policies,
  "0007-usage": usage,
  "0008-host-facts": hostFacts,
};

/** Brings the database up to date. Kysely holds an advisory lock meanwhile: managers starting at once take turns. */
export async function migrate(db: Kysely<Schema>): Promise<void> {
  const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve(MIGRATIONS) } });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw new Error("the database cannot be brought up to date", { cause: error });
}

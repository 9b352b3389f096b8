import { Kysely, PostgresDialect, sql, type RawBuilder, type Transaction } from "kysely";
import pg from "pg";
import { isStalePlan, preparing } from "./prepared.ts";
import type { Schema } from "./schema.ts";
import { timings } from "./timings.ts";

export type Database = Kysely<Schema>;
export type Tx = Transaction<Schema>;

export type ConnectionConfig =
  | { readonly url: string }
  | {
      readonly host: string;
      readonly port: number;
      readonly user: string;
      readonly password: string;
      readonly database: string;
    };

const INT8 = 20;

export function clientConfig(config: ConnectionConfig): pg.ClientConfig {
  const target = "url" in config ? { connectionString: config.url } : config;
  return {
    ...target,
    application_name: "farpool-manager",
    connectionTimeoutMillis: 5_000,
    keepAlive: true,
    types: {
      // Byte counts and revisions stay far below 2^53.
      getTypeParser: (oid: number, format?: "text" | "binary") =>
        oid === INT8 ? Number : pg.types.getTypeParser(oid, format as "text"),
    },
  };
}

export function connect(config: ConnectionConfig, onIdleError: (error: Error) => void): Database {
  const pool = new pg.Pool({ ...clientConfig(config), max: 12, statement_timeout: 30_000 });
  // An idle connection that breaks is replaced at the next use; unheard, the event would end the process.
  pool.on("error", onIdleError);
  return new Kysely<Schema>({
    dialect: new PostgresDialect({ pool: preparing(pool), controlClient: pg.Client }),
    log: ({ level, queryDurationMillis }) =>
      timings.statement(queryDurationMillis / 1_000, level === "error"),
  });
}

/** The database's clock: the only one that counts. */
export function now(): RawBuilder<Date> {
  return sql<Date>`clock_timestamp()`;
}

export function nowPlus(ms: number): RawBuilder<Date> {
  return sql<Date>`clock_timestamp() + ${ms} * interval '1 millisecond'`;
}

/** Any numbers that nothing else in this database uses. */
const PLACEMENT_LOCK = 7_443_001;
const IDENTITY_LOCK = 7_443_002;

/**
 * A transaction in which nobody else grants or ends sessions, in any manager: what it reads about
 * capacity stays true until it commits.
 */
export function inPlacement<T>(db: Database, work: (tx: Tx) => Promise<T>): Promise<T> {
  const asked = performance.now();
  return holding(PLACEMENT_LOCK, db, async (tx) => {
    const held = performance.now();
    try {
      return await work(tx);
    } finally {
      timings.placement((held - asked) / 1_000, (performance.now() - held) / 1_000);
    }
  });
}

/** A transaction in which no other manager makes the pool's keys. */
export function inIdentity<T>(db: Database, work: (tx: Tx) => Promise<T>): Promise<T> {
  return holding(IDENTITY_LOCK, db, work);
}

function holding<T>(lock: number, db: Database, work: (tx: Tx) => Promise<T>): Promise<T> {
  return againAfterDeadlock(() =>
    db.transaction().execute(async (tx) => {
      await sql`select pg_advisory_xact_lock(${lock})`.execute(tx);
      return work(tx);
    }),
  );
}

const MOST_ATTEMPTS = 3;

/**
 * Does the work again when PostgreSQL ended it to let others go on: statements that change many rows lock them in an
 * order of their own, so two of them may wait for each other. What was ended has changed nothing. The same for statements
 * that were prepared before a migration.
 */
export async function againAfterDeadlock<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      const isVictim = error instanceof Error && "code" in error && error.code === "40P01";
      if (!(isVictim || isStalePlan(error)) || attempt === MOST_ATTEMPTS) throw error;
    }
  }
}

/** A value for a `jsonb` column. */
export function jsonOrNull(value: unknown): string | null {
  return value === undefined || value === null ? null : JSON.stringify(value);
}

import type { PostgresPool, PostgresPoolClient } from "kysely";
import type pg from "pg";

/** So often a statement is sent as text before it is prepared: what is asked now and then costs no memory between. */
const OFTEN = 10;
/** Each costs every connection some tens of KiB in the database. */
const MOST_PREPARED = 256;
/** Texts that differ in the length of a list are counted each; when there are so many, counting begins anew. */
const MOST_COUNTED = 4_096;

/** The code of "cached plan must not change result type": a manager of another release has migrated the database. */
const FEATURE_NOT_SUPPORTED = "0A000";
const STALE = /cached plan must not change result type/;

/** Whether a prepared statement was older than the tables: the same transaction succeeds when it is done again. */
export function isStalePlan(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    error.code === FEATURE_NOT_SUPPORTED &&
    STALE.test(error.message)
  );
}

/** Which statements have a name, by which a connection knows them. */
interface Names {
  of(text: string): string | undefined;
  /** All get other names: what connections know by the former is not asked for again. */
  renew(): void;
}

function createNames(): Names {
  let generation = 0;
  const counts = new Map<string, number>();
  const names = new Map<string, string>();
  return {
    of(text) {
      const known = names.get(text);
      if (known !== undefined || names.size >= MOST_PREPARED) return known;
      const count = (counts.get(text) ?? 0) + 1;
      if (counts.size >= MOST_COUNTED) counts.clear();
      counts.set(text, count);
      if (count < OFTEN) return undefined;
      counts.delete(text);
      const name = `farpool_${generation}_${names.size}`;
      names.set(text, name);
      return name;
    },
    renew() {
      generation += 1;
      names.clear();
      counts.clear();
    },
  };
}

/**
 * Connections that prepare statements which are sent often: PostgreSQL parses and plans these once for each connection
 * and not each time, which for statements that do all of a grant is most of their cost.
 */
export function preparing(pool: pg.Pool): PostgresPool {
  const names = createNames();
  const clients = new WeakMap<pg.PoolClient, PostgresPoolClient>();
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      const known = clients.get(client) ?? preparingClient(client, names);
      clients.set(client, known);
      return known;
    },
  };
}

function preparingClient(client: pg.PoolClient, names: Names): PostgresPoolClient {
  /** Kysely begins and ends transactions by these words. */
  let inTransaction = false;

  async function query(text: string, values: readonly unknown[]): Promise<unknown> {
    if (/^(begin|start transaction)/.test(text)) inTransaction = true;
    else if (text === "commit" || text === "rollback") inTransaction = false;
    const name = values.length === 0 ? undefined : names.of(text);
    try {
      return await client.query({ text, values: [...values], ...(name !== undefined && { name }) });
    } catch (error) {
      if (!isStalePlan(error)) throw error;
      names.renew();
      if (inTransaction) throw error;
      return client.query({ text, values: [...values] });
    }
  }

  return {
    query: ((text: unknown, values: readonly unknown[]) => {
      if (typeof text !== "string") throw new TypeError("cursors are not used here");
      return query(text, values);
    }) as PostgresPoolClient["query"],
    release: (destroy?: boolean) => client.release(destroy),
  };
}

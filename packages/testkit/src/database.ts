import { join } from "node:path";
import { startEmbeddedPostgres } from "@farpool/embedded-postgres";
import pg from "pg";
import { temporaryFolder } from "./folders.ts";

export interface TestServer {
  /** A new, empty database. */
  createDatabase(): Promise<TestDatabase>;
  stop(): Promise<void>;
}

export interface TestDatabase {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** A real PostgreSQL for the tests of one file, as in production but for fsync. */
export async function startTestServer(): Promise<TestServer> {
  const folder = temporaryFolder();
  const server = await startEmbeddedPostgres({
    folder: join(folder.path, "postgres"),
    logFile: join(folder.path, "postgres.log"),
    settings: { max_connections: "100" },
    isDurable: false,
  });
  let created = 0;
  return {
    async createDatabase() {
      created += 1;
      const database = `test_${created}`;
      const client = new pg.Client({ ...server.connection, database: "postgres" });
      await client.connect();
      await client.query(`create database ${database}`);
      await client.end();
      return { ...server.connection, database };
    },
    async stop() {
      await server.stop();
      folder[Symbol.dispose]();
    },
  };
}

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { startEmbeddedPostgres } from "@farpool/embedded-postgres";
import pg from "pg";
import { temporaryFolder } from "./folders.ts";

export interface TestServer {
  /** A new, empty database. */
  createDatabase(): Promise<TestDatabase>;
  stop(): Promise<void>;
}

/** The databases stay behind, for whoever wants to look. */
function externalServer(url: string): TestServer {
  const { hostname: host, port, username, password } = new URL(url);
  const server = { host, port: Number(port || 5432), user: username, password: decodeURIComponent(password) };
  return {
    async createDatabase() {
      const database = `farpool_test_${randomBytes(6).toString("hex")}`;
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      await client.query(`create database ${database}`);
      await client.end();
      return { ...server, database };
    },
    stop: () => Promise.resolve(),
  };
}

/** As `--database` and FARPOOL_DATABASE take it; the host may be a folder of a Unix socket. */
export function databaseUrl({ host, port, user, password, database }: TestDatabase): string {
  const who = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  const where = `host=${encodeURIComponent(host)}&port=${port}`;
  return `postgres://${who}@localhost/${database}?${where}`;
}

export interface TestDatabase {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** Where a PostgreSQL can be had from elsewhere: `postgres://USER:PASSWORD@HOST:PORT/…`, who may make databases. */
const EXTERNAL = process.env["FARPOOL_TEST_DATABASE"];

interface Wish {
  /** The test stops it while it goes on: nobody else's is taken. */
  readonly isToBeStopped?: boolean;
}

/** A real PostgreSQL for the tests of one file, as in production but for fsync. */
export async function startTestServer({ isToBeStopped = false }: Wish = {}): Promise<TestServer> {
  if (!isToBeStopped && EXTERNAL !== undefined && EXTERNAL !== "") return externalServer(EXTERNAL);
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

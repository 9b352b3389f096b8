import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RunningProgram, execute, start, waitFor } from "./program.ts";

/** Where Debian's packages have their programs, a folder for each version. */
const VERSIONS = "/usr/lib/postgresql";

/** A cluster of its own, made with the programs of Debian's package: the machine's clusters are left alone. */
export interface DebianPostgres {
  /** For `--database` and FARPOOL_DATABASE. */
  readonly url: string;
  /** `PostgreSQL 15.18 (Debian 15.18-0+deb12u1) …` */
  version(): Promise<string>;
  stop(): Promise<void>;
}

export async function startDebianPostgres(): Promise<DebianPostgres> {
  const programs = join(VERSIONS, newestVersion(), "bin");
  const folder = mkdtempSync(join(tmpdir(), "farpool-debian-"));
  // PostgreSQL refuses to run as root; Debian's package brings the account.
  const account = process.getuid?.() === 0 ? accountOf("postgres") : undefined;
  if (account !== undefined) chownSync(folder, account.uid, account.gid);
  chmodSync(folder, 0o700);
  const as =
    account === undefined
      ? []
      : ["setpriv", `--reuid=${account.uid}`, `--regid=${account.gid}`, "--clear-groups"];
  const run = async (words: readonly string[]): Promise<string> => {
    const result = await execute([...as, ...words], { folder: "/" });
    if (result.status !== 0) throw new Error(`${words.join(" ")}: ${result.stderr}`);
    return result.stdout;
  };
  const data = join(folder, "data");
  await run([
    join(programs, "initdb"),
    "-D",
    data,
    "-U",
    "farpool",
    "-A",
    "trust",
    "--no-sync",
    "--locale=C",
    "-E",
    "UTF8",
  ]);
  const settings = {
    listen_addresses: "",
    unix_socket_directories: folder,
    fsync: "off",
    max_connections: "60",
  };
  const words = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  const server = start([...as, join(programs, "postgres"), "-D", data, ...words], { folder: "/" });
  const connected = ["-h", folder, "-U", "farpool", "-d", "postgres"];
  const ask = (sql: string): Promise<string> => run([join(programs, "psql"), ...connected, "-Atqc", sql]);
  await waitFor("Debian's PostgreSQL", async () => {
    requireAlive(server);
    return ask("create database pool owner farpool").then(
      () => true,
      () => undefined,
    );
  });
  return {
    url: `postgres://farpool@localhost/pool?host=${encodeURIComponent(folder)}`,
    version: async () => (await ask("select version()")).trim(),
    async stop() {
      server.child.kill("SIGINT");
      await server.ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function newestVersion(): string {
  const [newest] = readdirSync(VERSIONS).toSorted((a, b) => Number(b) - Number(a));
  if (newest === undefined)
    throw new Error(`there is no PostgreSQL in ${VERSIONS}: apt-get install postgresql`);
  return newest;
}

function accountOf(name: string): { readonly uid: number; readonly gid: number } {
  const id = (option: string): number => Number(execFileSync("id", [option, name], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

function requireAlive(server: RunningProgram): void {
  if (server.child.exitCode === null && server.child.signalCode === null) return;
  throw new Error(`Debian's PostgreSQL ended (code ${server.child.exitCode})`);
}

import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

/** Where a pool of this machine keeps what outlives it, and what does not. */
export interface PoolFolders {
  /** Database, token, logs, server identity. */
  readonly state: string;
  /** Sockets. */
  readonly runtime: string;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * `FARPOOL_STATE` and `FARPOOL_RUNTIME` override both. A state folder that is given takes the runtime
 * folder with it, so that two pools on one machine never share sockets.
 */
export function poolFolders(environment: Environment = process.env, stateOption?: string): PoolFolders {
  const given = stateOption ?? environment["FARPOOL_STATE"];
  const isRoot = process.getuid?.() === 0;
  const state = resolve(given ?? (isRoot ? "/var/lib/farpool" : join(homedir(), ".local/share/farpool")));
  const runtime = environment["FARPOOL_RUNTIME"];
  if (runtime !== undefined && runtime !== "") return { state, runtime: resolve(runtime) };
  if (given !== undefined) return { state, runtime: join(state, "run") };
  if (isRoot) return { state, runtime: "/run/farpool" };
  const xdg = environment["XDG_RUNTIME_DIR"];
  return { state, runtime: xdg === undefined || xdg === "" ? join(state, "run") : join(xdg, "farpool") };
}

export const managerSocket = (folders: PoolFolders): string => join(folders.runtime, "manager.sock");
export const acceptorControlSocket = (folders: PoolFolders): string => join(folders.runtime, "acceptor.sock");
export const dataSocket = (folders: PoolFolders): string => join(folders.runtime, "data.sock");
export const upFile = (folders: PoolFolders): string => join(folders.runtime, "up.json");
export const tokenFile = (folders: PoolFolders): string => join(folders.state, "api-token");
export const logFolder = (folders: PoolFolders): string => join(folders.state, "logs");

/** The state folder may be passed through (an unprivileged PostgreSQL lives below it), not listed. */
export function createFolders(folders: PoolFolders): void {
  mkdirSync(folders.state, { recursive: true, mode: 0o711 });
  mkdirSync(folders.runtime, { recursive: true, mode: 0o700 });
  mkdirSync(logFolder(folders), { recursive: true, mode: 0o700 });
}

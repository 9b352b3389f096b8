import { accessSync, constants, mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { FarpoolError } from "@farpool/contract";

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
/** Which server the machine of a manager is itself; its agent makes it. */
export const serverIdFile = (folders: PoolFolders): string => join(folders.state, "server-id");
/** Whoever reads it can let processes into this client's sessions. */
export const clientKeyFile = (folders: PoolFolders): string => join(folders.state, "client-key.pem");
/** How this machine is in another machine's pool, as a client and as a server; `join` writes them. */
export const clientMembershipFile = (folders: PoolFolders): string =>
  join(folders.state, "client-membership.json");
export const serverMembershipFile = (folders: PoolFolders): string =>
  join(folders.state, "server-membership.json");
export const serverKeyFile = (folders: PoolFolders): string => join(folders.state, "server-key.pem");
/** Who has signed in. */
export const signInFile = (folders: PoolFolders): string => join(folders.state, "sign-in.json");
/** What the workers of this server prove themselves with. */
export const workerIdentityFile = (folders: PoolFolders): string =>
  join(folders.state, "worker-identity.pem");
export const logFolder = (folders: PoolFolders): string => join(folders.state, "logs");

/** The state folder may be passed through (an unprivileged PostgreSQL lives below it), not listed. */
export function createFolders(folders: PoolFolders): void {
  create(folders.state, 0o711);
  create(folders.runtime, 0o700);
  create(logFolder(folders), 0o700);
}

function create(folder: string, mode: number): void {
  const hint = "--state chooses another folder, FARPOOL_RUNTIME another one for sockets";
  try {
    mkdirSync(folder, { recursive: true, mode });
    accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
      throw new FarpoolError("FARPOOL_NOT_PERMITTED", `this user may not write to ${folder}`, {
        hint,
        cause,
      });
    }
    throw new FarpoolError("FARPOOL_UNAVAILABLE", `the folder ${folder} cannot be made (${code})`, {
      hint,
      cause,
    });
  }
}

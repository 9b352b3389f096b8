import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  accessSync,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { dirname, join, resolve } from "node:path";
import { findBinaries } from "./binaries.ts";
import { unprivilegedIdentity, type Identity } from "./identity.ts";
import { serverSettings } from "./settings.ts";
import { clearStalePid } from "./stale-pid.ts";

const USER = "farpool";
const PORT = 5432;
const START_TIMEOUT_MS = 30_000;
/** `sun_path` has 108 bytes with its final zero. */
const MAX_SOCKET_PATH = 107;

export interface EmbeddedPostgresOptions {
  /** Everything lives below it: `data/`, the socket, the password, a copy of the binaries when needed. */
  readonly folder: string;
  readonly logFile: string;
  readonly settings?: Readonly<Record<string, string>>;
  /** False: what is committed may be lost when the machine dies. For tests. */
  readonly isDurable?: boolean;
}

export interface EmbeddedPostgres {
  readonly connection: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly password: string;
  };
  readonly pid: number;
  /** Settles when the server process is gone, wanted or not. */
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

/** Starts a real PostgreSQL as a child process, creating its cluster at the first start. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const folder = resolve(options.folder);
  const socketPath = join(folder, `.s.PGSQL.${PORT}`);
  if (Buffer.byteLength(socketPath) > MAX_SOCKET_PATH) {
    throw new Error(
      `the state folder's path is too long for a socket: ${socketPath} has more than ${MAX_SOCKET_PATH} bytes`,
    );
  }
  const { isDurable = true } = options;
  const identity = unprivilegedIdentity();
  prepareFolder(folder, identity);
  const binaries = findBinaries(identity, join(folder, "binaries"));
  const dataFolder = join(folder, "data");
  const password = readOrCreatePassword(join(folder, "password"));
  const logDescriptor = openSync(options.logFile, "a", 0o600);
  try {
    await stopLeftover(dataFolder);
    if (!existsSync(join(dataFolder, "PG_VERSION"))) {
      await initialise({
        binaries,
        dataFolder,
        password,
        identity,
        logDescriptor,
        logFile: options.logFile,
        isDurable,
      });
    }
    const child = spawn(
      join(binaries, "bin/postgres"),
      [
        "-D",
        dataFolder,
        ...serverSettings(folder, { ...options.settings, ...(isDurable ? {} : { fsync: "off" }) }),
      ],
      {
        ...identity,
        cwd: folder,
        env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
        stdio: ["ignore", logDescriptor, logDescriptor],
        // A group of its own: Ctrl-C on the terminal is for us, and we stop it when our work is done.
        detached: true,
      },
    );
    const exited = exitOf(child);
    await waitUntilReady(child, socketPath, options.logFile);
    return {
      connection: { host: folder, port: PORT, user: USER, password },
      pid: child.pid ?? 0,
      exited,
      stop: () => stop(child, exited),
    };
  } finally {
    closeSync(logDescriptor);
  }
}

function prepareFolder(folder: string, identity: Identity | undefined): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (identity === undefined) return;
  chownSync(folder, identity.uid, identity.gid);
  chmodSync(folder, 0o700);
  for (let parent = dirname(folder); parent !== dirname(parent); parent = dirname(parent)) {
    const { mode, uid } = statSync(parent);
    if ((mode & constants.S_IXOTH) !== 0 || uid === identity.uid) continue;
    throw new Error(
      `the embedded PostgreSQL runs as uid ${identity.uid}, which may not pass through ${parent}; ` +
        `choose another state folder (--state), allow it (chmod o+x ${parent}), or use --database`,
    );
  }
}

function readOrCreatePassword(file: string): string {
  if (existsSync(file)) return readFileSync(file, "utf8").trim();
  const password = randomBytes(24).toString("base64url");
  writeFileSync(file, `${password}\n`, { mode: 0o600, flag: "wx" });
  return password;
}

/** A PostgreSQL whose manager was killed goes on; its data must not be opened twice, so it is stopped first. */
async function stopLeftover(dataFolder: string): Promise<void> {
  const pid = clearStalePid(dataFolder);
  if (pid === undefined) return;
  process.kill(pid, "SIGINT");
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (clearStalePid(dataFolder) !== undefined) {
    if (Date.now() > deadline)
      throw new Error(`a PostgreSQL (pid ${pid}) runs on ${dataFolder} and does not stop`);
    await sleep(20);
  }
}

interface Initialisation {
  readonly binaries: string;
  readonly dataFolder: string;
  readonly password: string;
  readonly identity: Identity | undefined;
  readonly logDescriptor: number;
  readonly logFile: string;
  readonly isDurable: boolean;
}

async function initialise({
  binaries,
  dataFolder,
  password,
  identity,
  logDescriptor,
  logFile,
  isDurable,
}: Initialisation): Promise<void> {
  // A first start that was interrupted leaves a folder without PG_VERSION, which initdb would refuse.
  rmSync(dataFolder, { recursive: true, force: true });
  const passwordFile = `${dataFolder}.password`;
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (identity !== undefined) chownSync(passwordFile, identity.uid, identity.gid);
  try {
    const child = spawn(
      join(binaries, "bin/initdb"),
      [
        "-D",
        dataFolder,
        "-U",
        USER,
        "--pwfile",
        passwordFile,
        "-A",
        "scram-sha-256",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-instructions",
        ...(isDurable ? [] : ["--no-sync"]),
      ],
      {
        ...identity,
        cwd: dirname(dataFolder),
        env: { PATH: "/usr/bin:/bin", LC_ALL: "C" },
        stdio: ["ignore", logDescriptor, logDescriptor],
      },
    );
    await exitOf(child);
    if (child.exitCode !== 0) throw new Error(`initdb failed (code ${child.exitCode}); see ${logFile}`);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

function exitOf(child: ChildProcess): Promise<void> {
  return new Promise((settle) => {
    child.once("exit", () => settle());
    child.once("error", () => settle());
  });
}

async function waitUntilReady(child: ChildProcess, socketPath: string, logFile: string): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answers(socketPath))) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`PostgreSQL ended while starting; see ${logFile}`);
    if (Date.now() > deadline) {
      child.kill("SIGQUIT");
      throw new Error(`PostgreSQL did not start within ${START_TIMEOUT_MS / 1_000} s; see ${logFile}`);
    }
    await sleep(15);
  }
}

/**
 * Ready means: a start-up packet is answered with an authentication request ('R'). While recovering,
 * PostgreSQL answers 'E' instead, and the socket exists before either.
 */
function answers(socketPath: string): Promise<boolean> {
  try {
    accessSync(socketPath);
  } catch {
    return Promise.resolve(false);
  }
  return new Promise((settle) => {
    const socket = connect(socketPath);
    const finish = (ready: boolean): void => {
      socket.destroy();
      settle(ready);
    };
    socket.once("error", () => finish(false));
    socket.once("close", () => finish(false));
    socket.once("data", (data) => finish(data[0] === 0x52));
    socket.once("connect", () => socket.write(startupPacket()));
  });
}

function startupPacket(): Buffer {
  const parameters = Buffer.from(`user\0${USER}\0database\0postgres\0\0`);
  const packet = Buffer.alloc(8 + parameters.length);
  packet.writeInt32BE(packet.length, 0);
  packet.writeInt32BE(196_608, 4); // protocol 3.0
  parameters.copy(packet, 8);
  return packet;
}

/** SIGINT is PostgreSQL's fast shutdown: connections are cut, what was committed is written. */
async function stop(child: ChildProcess, exited: Promise<void>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill("SIGINT");
  const impatient = setTimeout(() => child.kill("SIGQUIT"), 15_000);
  await exited;
  clearTimeout(impatient);
}

function sleep(ms: number): Promise<void> {
  return new Promise((settle) => setTimeout(settle, ms));
}

import { hostname } from "node:os";
import type { AgentProcess } from "@farpool/agent";
import { TIMES } from "@farpool/contract";
import {
  acceptorControlSocket,
  dataSocket,
  logFolder,
  managerSocket,
  serverIdFile,
  tokenFile,
  workerIdentityFile,
  type Installation,
  type PoolFolders,
} from "@farpool/layout";
import type { ManagerProcess } from "@farpool/manager";
import type { KeptSockets } from "./kept-sockets.ts";
import type { PartSpec } from "./supervisor.ts";

export interface PoolSettings {
  readonly folders: PoolFolders;
  readonly installation: Installation;
  readonly listen: string;
  readonly port: number;
  readonly dataPort: number;
  /** What the acceptor listens on. */
  readonly sockets: Pick<KeptSockets, "descriptors" | "names">;
  /** Addresses of data connections as clients see them, where these are others than the server's own. */
  readonly advertise: ReadonlyArray<{ readonly host: string; readonly port: number }>;
  readonly labels?: Readonly<Record<string, string>>;
  readonly graceSeconds: number | undefined;
  /** How the pool is scheduled, where that was given. */
  readonly halfLifeMs: number | undefined;
  readonly reserveAfterMs: number | undefined;
  readonly database: string | undefined;
  readonly driver: string;
  readonly gpuIndexes: readonly number[] | undefined;
  /** Data connections over TCP are neither encrypted nor authenticated. */
  readonly isPlainTcp: boolean;
  /** Ports of the metrics; undefined: there are none. */
  readonly metrics?: { readonly manager: number; readonly agent: number } | undefined;
}

/** The three processes of a pool on one machine (ARCHITECTURE 2), in the order in which they are started. */
export function poolParts(settings: PoolSettings): readonly PartSpec[] {
  const { folders, installation, listen, port } = settings;
  const manager: ManagerProcess = {
    database: settings.database === undefined ? "embedded" : "external",
    stateFolder: folders.state,
    logFolder: logFolder(folders),
    socketPath: managerSocket(folders),
    tokenFile: tokenFile(folders),
    tcp: { host: listen, port },
    publicPlace: { host: reachableHost(listen), port },
    graceMs: settings.graceSeconds === undefined ? TIMES.graceMs : settings.graceSeconds * 1_000,
    metrics: settings.metrics === undefined ? null : { host: listen, port: settings.metrics.manager },
    scheduling: { halfLifeMs: settings.halfLifeMs, reserveAfterMs: settings.reserveAfterMs },
  };
  const ownManager: AgentProcess["manager"] = {
    kind: "local",
    socketPath: managerSocket(folders),
    serverIdFile: serverIdFile(folders),
    serverName: hostname(),
  };
  const database = settings.database === undefined ? {} : { FARPOOL_DATABASE: settings.database };
  return [
    ours("manager", manager, { installation, environment: { ...process.env, ...database } }),
    ...serverParts({ ...settings, manager: ownManager, dataHost: reachableHost(listen) }),
  ];
}

type OfTheManager = "port" | "graceSeconds" | "database" | "metrics" | "halfLifeMs" | "reserveAfterMs";

export interface ServerSettings extends Omit<PoolSettings, OfTheManager> {
  /** Port of the agent's metrics; undefined: there are none. */
  readonly metrics?: { readonly agent: number } | undefined;
  readonly manager: AgentProcess["manager"];
  /** Where clients reach the data port. */
  readonly dataHost: string;
}

/** The two processes of a server, whosever manager it has. */
export function serverParts(settings: ServerSettings): readonly PartSpec[] {
  const { folders, installation, listen, dataPort, driver } = settings;
  // The database is the manager's alone.
  const { FARPOOL_DATABASE: _, ...environment } = process.env;
  const agent: AgentProcess = {
    manager: settings.manager,
    dataHost: settings.dataHost,
    advertise: [...settings.advertise],
    labels: { ...settings.labels },
    acceptorSocket: acceptorControlSocket(folders),
    identityFile: workerIdentityFile(folders),
    transport: settings.isPlainTcp ? "tcp" : "tls",
    worker: installation.worker,
    driver,
    gpuIndexes: settings.gpuIndexes === undefined ? null : [...settings.gpuIndexes],
    metrics: settings.metrics === undefined ? null : { host: listen, port: settings.metrics.agent },
  };
  return [
    {
      name: "acceptor",
      file: installation.acceptor,
      arguments: [
        ...["--control", acceptorControlSocket(folders)],
        ...["--worker", installation.worker],
        ...["--driver", driver],
        ...["--listen", listen.includes(":") ? `[${listen}]:${dataPort}` : `${listen}:${dataPort}`],
        ...["--unix", dataSocket(folders)],
        ...["--server-name", hostname()],
        ...["--worker-identity", workerIdentityFile(folders)],
        ...(settings.isPlainTcp ? ["--plain-tcp"] : []),
      ],
      environment: { ...environment, FARPOOL_LISTEN_FDS: settings.sockets.names },
      descriptors: settings.sockets.descriptors,
    },
    ours("agent", agent, { installation, environment }),
  ];
}

interface Surroundings {
  readonly installation: Installation;
  readonly environment: NodeJS.ProcessEnv;
}

function ours(name: string, process_: object, { installation, environment }: Surroundings): PartSpec {
  const program = process.argv[1] ?? installation.cli;
  const words = ["internal", name, JSON.stringify(process_)];
  return {
    name,
    file: process.execPath,
    arguments: [...process.execArgv, program, ...words],
    environment,
  };
}

/** An address that means "all of mine" is nothing a client can connect to. */
export function reachableHost(listen: string): string {
  return listen === "0.0.0.0" || listen === "::" ? hostname() : listen;
}

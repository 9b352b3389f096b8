import { hostname } from "node:os";
import { join } from "node:path";
import type { AgentProcess } from "@farpool/agent";
import { TIMES } from "@farpool/contract";
import {
  acceptorControlSocket,
  dataSocket,
  logFolder,
  managerSocket,
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
  const { folders, installation, listen, port, dataPort, driver } = settings;
  const environment = process.env;
  const manager: ManagerProcess = {
    database: settings.database ?? null,
    stateFolder: folders.state,
    logFolder: logFolder(folders),
    socketPath: managerSocket(folders),
    tokenFile: tokenFile(folders),
    tcp: { host: listen, port },
    graceMs: settings.graceSeconds === undefined ? TIMES.graceMs : settings.graceSeconds * 1_000,
    metrics: settings.metrics === undefined ? null : { host: listen, port: settings.metrics.manager },
    scheduling: { halfLifeMs: settings.halfLifeMs, reserveAfterMs: settings.reserveAfterMs },
  };
  const agent: AgentProcess = {
    manager: `unix:${managerSocket(folders)}`,
    tokenFile: null,
    serverIdFile: join(folders.state, "server-id"),
    serverName: hostname(),
    dataHost: reachableHost(listen),
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
  const ours = (name: string, process_: object): PartSpec => ({
    name,
    file: process.execPath,
    arguments: [
      ...process.execArgv,
      process.argv[1] ?? installation.cli,
      "internal",
      name,
      JSON.stringify(process_),
    ],
    environment,
  });
  return [
    ours("manager", manager),
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
    ours("agent", agent),
  ];
}

/** An address that means "all of mine" is nothing a client can connect to. */
function reachableHost(listen: string): string {
  return listen === "0.0.0.0" || listen === "::" ? hostname() : listen;
}

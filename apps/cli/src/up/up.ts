import { existsSync, readFileSync } from "node:fs";
import { createClient, formatAddress } from "@farpool/client-api";
import { DEFAULT_DATA_PORT, DEFAULT_MANAGER_PORT } from "@farpool/contract";
import { managerSocket, poolFolders, serverIdFile, type PoolFolders } from "@farpool/layout";
import { say } from "../core/output.ts";
import { whileClaimed, type Claimed } from "./claimed.ts";
import { down } from "./down.ts";
import { chooseDriver } from "./driver.ts";
import { keepSockets, type KeptSockets } from "./kept-sockets.ts";
import { poolParts } from "./parts.ts";
import { bracketed, choosePort } from "./ports.ts";
import { sayInvitations } from "./invitations.ts";
import { runParts } from "./run-parts.ts";

export interface UpOptions {
  readonly gpus: readonly number[] | undefined;
  readonly listen: string | undefined;
  readonly port: number | undefined;
  readonly dataPort: number | undefined;
  readonly labels: ReadonlyArray<readonly [string, string]> | undefined;
  readonly advertise: ReadonlyArray<{ readonly host: string; readonly port: number }> | undefined;
  readonly graceSeconds: number | undefined;
  readonly halfLifeMs: number | undefined;
  readonly reserveAfterMs: number | undefined;
  readonly state: string | undefined;
  readonly database: string | undefined;
  readonly driver: string | undefined;
  readonly simulated: number | undefined;
  readonly isPlainTcp: boolean;
  readonly metricsPort: number | undefined;
  readonly isBackground: boolean;
  readonly isStop: boolean;
}

export async function up(options: UpOptions): Promise<number> {
  if (options.isStop) return down(options.state);
  const folders = poolFolders(process.env, options.state);
  return whileClaimed(options, folders, (claimed) => serve(options, claimed));
}

async function serve(options: UpOptions, claimed: Claimed): Promise<number> {
  const { folders } = claimed;
  const listen = options.listen ?? "127.0.0.1";
  const port = await choosePort(listen, options.port ?? DEFAULT_MANAGER_PORT, "--port");
  const metrics = await chooseMetricsPorts(listen, options.metricsPort);
  const sockets = keepSockets(listen, options.dataPort ?? DEFAULT_DATA_PORT, folders);
  try {
    return await serveOn(sockets, { listen, port, metrics }, options, claimed);
  } finally {
    sockets.close();
  }
}

interface Places {
  readonly listen: string;
  readonly port: number;
  readonly metrics: { readonly manager: number; readonly agent: number } | undefined;
}

/** The agent's is the next one, as the ports by default are. */
async function chooseMetricsPorts(listen: string, wanted: number | undefined): Promise<Places["metrics"]> {
  if (wanted === undefined) return undefined;
  const manager = await choosePort(listen, wanted, "--metrics-port");
  return { manager, agent: await choosePort(listen, wanted === 0 ? 0 : wanted + 1, "--metrics-port") };
}

// oxlint-disable-next-line eslint/max-params -- what was made, where, how, and for whom
async function serveOn(
  sockets: KeptSockets,
  { listen, port, metrics }: Places,
  options: UpOptions,
  { folders, installation, own, stop }: Claimed,
): Promise<number> {
  const { dataPort } = sockets;
  const choice = await chooseDriver(options, installation);
  say(`offering ${choice.sentence}`);
  say(`driver   ${choice.driver}`);
  const address = formatAddress({ host: listen, port });
  const settings = {
    folders,
    installation,
    listen,
    port,
    dataPort,
    sockets,
    advertise: options.advertise ?? [],
    labels: Object.fromEntries(options.labels ?? []),
    graceSeconds: options.graceSeconds,
    halfLifeMs: options.halfLifeMs,
    reserveAfterMs: options.reserveAfterMs,
    database: options.database ?? databaseVariable(),
    driver: choice.driver,
    gpuIndexes: options.gpus,
    isPlainTcp: options.isPlainTcp,
    metrics,
  };
  const client = createClient({ kind: "unix", path: managerSocket(folders) });
  try {
    return await runParts({
      specs: poolParts(settings),
      ...{ folders, own, stop, what: "pool", address, description: choice.sentence },
      async missing(signal) {
        const answer = await client
          .call("listServers", {}, { timeoutMs: 2_000, signal })
          .catch(() => undefined);
        if (answer === undefined) return "manager";
        // Where several managers share a database, others are servers, too.
        const own = ownServerId(folders);
        const isOnline = answer.servers.some(({ id, state }) => id === own && state === "online");
        return isOnline ? undefined : "agent";
      },
      async onReady() {
        say(`ready    manager at ${address}, data port ${dataPort}, state in ${folders.state}`);
        if (metrics !== undefined) {
          const at = (metricsPort: number): string => `http://${bracketed(listen)}:${metricsPort}/metrics`;
          say(`metrics  ${at(metrics.manager)} (manager), ${at(metrics.agent)} (agent)`);
        }
        say(`next     farpool run -n 1 -- PROGRAM`);
        await sayInvitations(client, listen);
      },
    });
  } finally {
    client.close();
  }
}

function ownServerId(folders: PoolFolders): string | undefined {
  const file = serverIdFile(folders);
  return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
}

function databaseVariable(): string | undefined {
  const url = process.env["FARPOOL_DATABASE"];
  return url === "" ? undefined : url;
}

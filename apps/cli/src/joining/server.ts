import { connect } from "node:net";
import { hostname } from "node:os";
import { createClient, formatAddress } from "@farpool/client-api";
import { DEFAULT_DATA_PORT, FarpoolError } from "@farpool/contract";
import {
  createFolders,
  findInstallation,
  poolFolders,
  serverKeyFile,
  serverMembershipFile,
} from "@farpool/layout";
import { say } from "../core/output.ts";
import { openServerMembership } from "../core/pool-client.ts";
import { startInBackground } from "../up/background.ts";
import { chooseDriver } from "../up/driver.ts";
import { keepSockets } from "../up/kept-sockets.ts";
import { endLeftovers } from "../up/leftovers.ts";
import { serverParts } from "../up/parts.ts";
import { claim, ownIdentity, readLiveRecord, removeRecord, type UpRecord } from "../up/record.ts";
import { bracketed, choosePort } from "../up/ports.ts";
import { runParts, stopRequest } from "../up/run-parts.ts";
import { alreadyRunning, requireParts, requireShortPaths } from "../up/up.ts";

export interface ServerOptions {
  readonly gpus: readonly number[] | undefined;
  readonly listen: string | undefined;
  readonly dataPort: number | undefined;
  readonly advertise: ReadonlyArray<{ readonly host: string; readonly port: number }> | undefined;
  readonly labels: ReadonlyArray<readonly [string, string]> | undefined;
  readonly state: string | undefined;
  readonly driver: string | undefined;
  readonly simulated: number | undefined;
  readonly isPlainTcp: boolean;
  readonly metricsPort: number | undefined;
  readonly isBackground: boolean;
}

const ALL_ADDRESSES = "0.0.0.0";

/** Offers this machine's GPUs to the pool that it has joined: an agent and an acceptor, until it is stopped. */
export async function server(options: ServerOptions): Promise<number> {
  const folders = poolFolders(process.env, options.state);
  const membership = openServerMembership(folders);
  if (membership === undefined)
    throw new FarpoolError(
      "FARPOOL_NOT_PERMITTED",
      `this machine is no server of a pool: there is no ${serverMembershipFile(folders)}`,
      { hint: "'farpool join STRING' makes it one; 'farpool up' starts a pool of its own" },
    );
  const running = readLiveRecord(folders);
  if (running !== undefined) return alreadyRunning(running, folders, options.isBackground);
  const installation = findInstallation();
  requireParts(installation);
  requireShortPaths(folders);
  if (options.isBackground) return startInBackground(folders);
  if (options.simulated !== undefined) process.env["FARPOOL_SIMGPU_DEVICES"] = String(options.simulated);
  createFolders(folders);
  await endLeftovers(folders);
  const own: UpRecord = {
    ...ownIdentity(),
    ...{ isReady: false, address: "", description: "", runtime: folders.runtime, processes: [] },
  };
  const other = claim(folders, own);
  if (other !== undefined) return alreadyRunning(other, folders, false);
  const stop = stopRequest();
  const { host, port, name, machineId } = membership.membership;
  const listen = options.listen ?? ALL_ADDRESSES;
  const metricsPort =
    options.metricsPort === undefined
      ? undefined
      : await choosePort(listen, options.metricsPort, "--metrics-port");
  const sockets = keepSockets(listen, options.dataPort ?? DEFAULT_DATA_PORT, folders);
  const client = createClient(membership.address());
  try {
    await membership.renewIfDue();
    const choice = await chooseDriver({ ...options, gpus: options.gpus }, installation);
    say(`offering ${choice.sentence}`);
    say(`driver   ${choice.driver}`);
    const address = formatAddress({ host, port });
    const { dataPort } = sockets;
    const isEverywhere = listen === ALL_ADDRESSES || listen === "::";
    const dataHost = isEverywhere ? await addressTowards({ host, port }) : listen;
    const specs = serverParts({
      ...{ folders, installation, listen, dataPort, sockets, dataHost },
      advertise: options.advertise ?? [],
      labels: Object.fromEntries(options.labels ?? []),
      driver: choice.driver,
      gpuIndexes: options.gpus,
      isPlainTcp: options.isPlainTcp,
      metrics: metricsPort === undefined ? undefined : { agent: metricsPort },
      manager: {
        kind: "joined",
        membership: serverMembershipFile(folders),
        key: serverKeyFile(folders),
      },
    });
    return await runParts({
      ...{ specs, folders, own, stop, what: "server", address, description: choice.sentence },
      async missing(signal) {
        const answer = await client
          .call("listServers", {}, { timeoutMs: 2_000, signal })
          .catch(() => undefined);
        const isOnline = answer?.servers.some(({ id, state }) => id === machineId && state === "online");
        return isOnline === true ? undefined : "agent";
      },
      onReady: () => {
        say(`ready    ${name} serves the pool at ${address}, data at ${dataHost}:${dataPort}`);
        if (metricsPort !== undefined) say(`metrics  http://${bracketed(dataHost)}:${metricsPort}/metrics`);
        return Promise.resolve();
      },
    });
  } finally {
    client.close();
    sockets.close();
    removeRecord(folders);
  }
}

/**
 * The address of this machine by which it reaches the manager: what reaches that way most likely comes back by it. Its name where
 * only a proxy leads there.
 */
function addressTowards({ host, port }: { readonly host: string; readonly port: number }): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const giveUp = (): void => {
      socket.destroy();
      resolve(hostname());
    };
    socket.setTimeout(5_000, giveUp);
    socket.once("error", giveUp);
    socket.once("connect", () => {
      const { localAddress } = socket;
      socket.destroy();
      // An IPv4 address in IPv6's clothes.
      resolve(localAddress?.replace(/^::ffff:/, "") ?? hostname());
    });
  });
}

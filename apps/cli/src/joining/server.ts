import { connect } from "node:net";
import { hostname } from "node:os";
import { createClient, formatAddress, type OpenMembership } from "@farpool/client-api";
import { DEFAULT_DATA_PORT, FarpoolError } from "@farpool/contract";
import { poolFolders, serverKeyFile, serverMembershipFile } from "@farpool/layout";
import { say } from "../core/output.ts";
import { openServerMembership } from "../core/pool-client.ts";
import { whileClaimed, type Claimed } from "../up/claimed.ts";
import { chooseDriver } from "../up/driver.ts";
import { keepSockets } from "../up/kept-sockets.ts";
import { serverParts } from "../up/parts.ts";
import { bracketed, choosePort } from "../up/ports.ts";
import { runParts } from "../up/run-parts.ts";

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
  return whileClaimed(options, folders, (claimed) => serve(options, membership, claimed));
}

async function serve(
  options: ServerOptions,
  membership: OpenMembership,
  { folders, installation, own, stop }: Claimed,
): Promise<number> {
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
    const choice = await chooseDriver(options, installation);
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

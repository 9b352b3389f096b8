import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { ManagerClient } from "@farpool/client-api";
import {
  FarpoolError,
  TIMES,
  VERSION,
  type Endpoint,
  type Inventory,
  type ServerId,
} from "@farpool/contract";
import type { Logger } from "pino";
import { connectAcceptor, type AcceptorConnection } from "./acceptor-connection.ts";
import { SYSTEM_CLOCK } from "./clock.ts";
import { createEnds } from "./ends.ts";
import { SYSTEM_HEALTH, withHealth } from "./health.ts";
import { readHostFacts } from "./host-facts.ts";
import { readInventory, type InventorySource } from "./inventory.ts";
import { createSamples, SAMPLE_MS } from "./samples.ts";
import { createReconciler } from "./reconciler.ts";
import type { AgentMetrics } from "./metrics.ts";
import { createWorkerIdentity } from "./worker-identity.ts";

const ACCEPTOR_RETRY_MS = 200;
const MANAGER_RETRY_MS = 500;
/** Used memory changes all the time; asking costs a process. */
const INVENTORY_PERIOD_MS = 30_000;
/** Disks fill and clocks drift slowly. */
const HOST_PERIOD_MS = 30_000;
/** Untold, the manager would go on granting here for some seconds. */
const FAREWELL_TIMEOUT_MS = 3_000;
/** After a worker's end its memory is looked at again; of several ends at once only once. */
const INVENTORY_AFTER_END_MS = 200;

export interface AgentOptions {
  readonly client: ManagerClient;
  readonly serverId: ServerId;
  readonly serverName: string;
  /** The host that clients reach the data port at; the port is the acceptor's own word. */
  readonly dataHost: string;
  /** Told instead of `dataHost` and that port, if there are any: what forwards to them. */
  readonly advertise: ReadonlyArray<{ readonly host: string; readonly port: number }>;
  readonly acceptorSocket: string;
  /** Where certificate and key of the workers are. */
  readonly identityFile: string;
  /** How the acceptor takes connections over TCP. */
  readonly transport: "tls" | "tcp";
  /** When sessions end, for the next agent. */
  readonly endsFile: string;
  readonly inventory: InventorySource;
  readonly labels: Readonly<Record<string, string>>;
  readonly logger: Logger;
  readonly metrics?: AgentMetrics;
}

/**
 * The control process of a server. It owns nothing: the manager says what should be, the acceptor what
 * is. Killing it disturbs no program, and its successor adopts what it finds.
 */
export async function runAgentLoops(options: AgentOptions, signal: AbortSignal): Promise<void> {
  const { client, serverId, logger, metrics } = options;
  const params = { serverId };
  let acceptor: AcceptorConnection | undefined;
  let isRegistered = false;
  let hostToldAt = Number.NEGATIVE_INFINITY;
  let inventory: Inventory | undefined;
  let freshInventory: Inventory | null = null;
  let wakeManager = new AbortController();
  let wakeInventory = new AbortController();
  const samples = createSamples(SYSTEM_CLOCK);
  const reconciler = createReconciler({
    serverId,
    samples,
    ends: createEnds({ file: options.endsFile, clock: SYSTEM_CLOCK, logger }),
    logger,
    async send(report) {
      if (!isRegistered) throw new Error("this server is not registered at the moment");
      await client.call("reportAgent", { params, body: report }, { signal });
      metrics?.reported(report);
    },
  });
  const identity = createWorkerIdentity({
    file: options.identityFile,
    certify: (publicKey) => client.call("certifyAgent", { params, body: { publicKey } }, { signal }),
    clock: SYSTEM_CLOCK,
    logger,
  });

  async function keepAcceptor(): Promise<void> {
    while (!signal.aborted) {
      try {
        const link = await connectAcceptor(options.acceptorSocket, (event) => {
          reconciler.onEvent(event);
          if (event.event === "workerEnded") wakeInventory.abort();
        });
        const stop = (): void => link.end();
        signal.addEventListener("abort", stop, { once: true });
        logger.info({ acceptor: link.hello }, "acceptor connected");
        acceptor = link;
        metrics?.acceptor(true);
        reconciler.setAcceptor(link);
        await link.closed;
        signal.removeEventListener("abort", stop);
        logger.warn("acceptor disconnected");
      } catch (error) {
        logger.debug({ err: error }, "acceptor does not answer");
      }
      acceptor = undefined;
      metrics?.acceptor(false);
      reconciler.setAcceptor(undefined);
      await pause(ACCEPTOR_RETRY_MS, signal);
    }
  }

  async function keepInventory(): Promise<void> {
    while (!signal.aborted) {
      wakeInventory = new AbortController();
      try {
        const found = await readInventory(options.inventory);
        const read = await withHealth(found, SYSTEM_HEALTH, await workerPids());
        const isSame = inventory !== undefined && isDeepStrictEqual(read, inventory);
        inventory = read;
        metrics?.inventory(read);
        if (!isSame) {
          freshInventory = read;
          wakeManager.abort();
        }
      } catch (error) {
        metrics?.inventoryFailed();
        logger.error({ err: error }, "inventory failed");
      }
      const period = inventory === undefined ? TIMES.heartbeatMs : INVENTORY_PERIOD_MS;
      await pause(period, AbortSignal.any([signal, wakeInventory.signal]));
      await pause(INVENTORY_AFTER_END_MS, signal);
    }
  }

  async function workerPids(): Promise<ReadonlySet<number>> {
    const status = await acceptor?.status().catch(() => undefined);
    return new Set(status?.sessions.flatMap(({ workers }) => workers.map(({ pid }) => pid)));
  }

  async function keepSamples(): Promise<void> {
    while (!signal.aborted) {
      // At whole tens of seconds, as they are stored.
      await pause(SAMPLE_MS - (Date.now() % SAMPLE_MS), signal);
      try {
        if (acceptor !== undefined && !signal.aborted) samples.take(await acceptor.status());
      } catch (error) {
        logger.debug({ err: error }, "no sample");
      }
    }
  }

  async function keepManager(): Promise<void> {
    while (!signal.aborted) {
      try {
        if (isRegistered) await heartbeat();
        else await register();
        wakeManager = new AbortController();
        await pause(isRegistered ? TIMES.heartbeatMs : 50, AbortSignal.any([signal, wakeManager.signal]));
      } catch (error) {
        if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_FOUND") isRegistered = false;
        metrics?.heartbeat(undefined);
        logger.warn({ err: error }, "manager does not answer");
        await pause(MANAGER_RETRY_MS, signal);
      }
    }
  }

  async function register(): Promise<void> {
    if (acceptor === undefined || inventory === undefined) return;
    // Each time: a manager that does not know this server may have another database, and another authority with it.
    await identity.renew();
    await client.call(
      "registerAgent",
      {
        body: {
          serverId,
          name: options.serverName,
          version: VERSION,
          endpoints: endpoints(acceptor),
          inventory,
          workerSandbox: workerSandbox(acceptor, inventory),
          labels: options.labels,
          host: readHostFacts(options.identityFile),
        },
      },
      { signal },
    );
    isRegistered = true;
    freshInventory = null;
    logger.info({ gpus: inventory.gpus.length, driver: options.inventory.driver }, "registered");
    await heartbeat();
  }

  function endpoints({ hello }: AcceptorConnection): Endpoint[] {
    const own = { host: options.dataHost, port: hello.port };
    const addresses = options.advertise.length > 0 ? options.advertise : [own];
    const remote = addresses.map(({ host, port }): Endpoint => ({ kind: options.transport, host, port }));
    return hello.unixPath === undefined || hello.unixPath === null
      ? remote
      : [{ kind: "unix", path: hello.unixPath }, ...remote];
  }

  /** What this machine offers, where the acceptor wants it. */
  function workerSandbox({ hello }: AcceptorConnection, { sandbox }: Inventory): string[] | null {
    switch (hello.workerSandbox) {
      case "strict":
        return sandbox;
      case "off":
        return [];
      case null:
      case undefined:
        return null;
    }
  }

  async function heartbeat(): Promise<void> {
    const sent = freshInventory;
    const started = performance.now();
    const isHostDue = started - hostToldAt > HOST_PERIOD_MS;
    const hasNothingNew = await reconciler.hasNothingNew().catch(() => false);
    await client.call(
      "heartbeatAgent",
      {
        params,
        body: {
          inventory: sent,
          acceptorReady: acceptor !== undefined,
          host: isHostDue ? readHostFacts(options.identityFile) : null,
          hasNothingNew,
        },
      },
      { signal },
    );
    if (isHostDue) hostToldAt = started;
    metrics?.heartbeat((performance.now() - started) / 1_000);
    if (freshInventory === sent) freshInventory = null;
    if (!hasNothingNew) reconciler.poke();
  }

  async function keepDesired(): Promise<void> {
    let revision = 0;
    while (!signal.aborted) {
      if (!isRegistered) {
        revision = 0;
        await pause(20, signal);
        continue;
      }
      try {
        const desired = await client.call(
          "watchDesired",
          { params, query: { revision } },
          { signal, timeoutMs: 2 * TIMES.longPollMs },
        );
        if (desired.revision > revision) reconciler.setDesired(desired);
        revision = desired.revision;
      } catch (error) {
        if (error instanceof FarpoolError && error.code === "FARPOOL_NOT_FOUND") isRegistered = false;
        // The manager may have another database now: its word is taken from the beginning.
        revision = 0;
        await pause(MANAGER_RETRY_MS, signal);
      }
    }
  }

  await Promise.all([
    keepAcceptor(),
    keepInventory(),
    keepSamples(),
    keepManager(),
    keepDesired(),
    identity.keep(signal),
  ]);
  if (!isRegistered) return;
  // Nothing new is placed here until an agent is back; what runs goes on.
  await client
    .call(
      "heartbeatAgent",
      { params, body: { inventory: null, acceptorReady: false } },
      { timeoutMs: FAREWELL_TIMEOUT_MS },
    )
    .catch(() => undefined);
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => undefined);
}

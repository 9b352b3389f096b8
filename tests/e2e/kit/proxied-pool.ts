import { type CuttingProxy, startCuttingProxy } from "@farpool/testkit";
import { setBufferSizes } from "@farpool/os";
import { freePort } from "../../../scripts/free-port.ts";
import { type Pool, startPool } from "./pool.ts";

/** A pool whose data connections over TCP all go through proxies, which cut them. */
export interface ProxiedPool {
  readonly pool: Pool;
  /** The server's addresses, in the order in which clients try them. */
  readonly proxies: readonly [CuttingProxy, ...CuttingProxy[]];
  /** For programs: they take no other way. */
  readonly environment: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

export async function startProxiedPool(options: {
  readonly grace: string;
  readonly addresses?: number;
  readonly gpus?: number;
  readonly simulation?: Readonly<Record<string, string>>;
}): Promise<ProxiedPool> {
  const port = await freePort();
  const target = { host: "127.0.0.1", port };
  const start = (): Promise<CuttingProxy> => startCuttingProxy({ target, setBufferSizes });
  const proxies: [CuttingProxy, ...CuttingProxy[]] = [await start()];
  while (proxies.length < (options.addresses ?? 1)) proxies.push(await start());
  const stopProxies = async (): Promise<void> => {
    for (const proxy of proxies) await proxy.close();
  };
  const words = proxies.flatMap((proxy) => ["--advertise", `${proxy.host}:${proxy.port}`]);
  try {
    const more = { words: ["--grace", options.grace, ...words], dataPort: port };
    const pool = await startPool(options.gpus ?? 1, options.simulation, more);
    return {
      pool,
      proxies,
      environment: { FARPOOL_TRANSPORT: "tcp" },
      async stop() {
        // Whoever waits for a black hole to end is let go first.
        await stopProxies();
        await pool.stop();
      },
    };
  } catch (error) {
    await stopProxies();
    throw error;
  }
}

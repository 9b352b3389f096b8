import type { Endpoint, Server } from "@farpool/contract";
import { fail, pass, warning, type Check } from "../doctor/check.ts";
import { tryConnect } from "../doctor/pool-checks.ts";

const ATTEMPTS = 10;
/** A call that waits for the GPU takes at least this much longer than on a local one. */
const SLOW_MS = 2;

/** The way from this machine to a server's data port: whether there is one, and how long it takes. */
export async function checkWay({ endpoints }: Server): Promise<Check[]> {
  const results: Way[] = [];
  // One after the other: beside each other they would measure this process.
  for (const endpoint of endpoints) results.push(await measure(endpoint));
  const isReached = results.some(({ problem }) => problem === undefined);
  return results.map(({ endpoint, problem, ms }) => {
    const name = "data port";
    const place = placeOf(endpoint);
    if (problem === undefined) {
      const sentence = `${place} answers in ${ms.toFixed(2)} ms (the best of ${ATTEMPTS})`;
      return ms <= SLOW_MS
        ? pass(name, sentence)
        : warning(
            name,
            sentence,
            `each call that waits for the GPU takes that much longer; ${SLOW_MS} ms are much`,
          );
    }
    // A socket of another machine is no way from here, and none is needed.
    if (endpoint.kind === "unix") return pass(name, `${place} is only for programs on the server itself`);
    const hint = `open TCP port ${endpoint.port} from this machine to ${endpoint.host}, or start the server with --advertise`;
    return isReached
      ? warning(name, `${place}: ${problem}; another address of the server answers`, hint)
      : fail(name, `${place}: ${problem}`, hint);
  });
}

interface Way {
  readonly endpoint: Endpoint;
  readonly problem: string | undefined;
  readonly ms: number;
}

/** A connection takes one round trip. */
async function measure(endpoint: Endpoint): Promise<Way> {
  const times: number[] = [];
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const started = performance.now();
    const problem = await tryConnect(endpoint);
    if (problem !== undefined) return { endpoint, problem, ms: 0 };
    times.push(performance.now() - started);
  }
  // The best one is the way's; the others have something of this machine in them.
  return { endpoint, problem: undefined, ms: Math.min(...times) };
}

function placeOf(endpoint: Endpoint): string {
  return endpoint.kind === "unix"
    ? `unix ${endpoint.path}`
    : `${endpoint.kind} ${endpoint.host}:${endpoint.port}`;
}

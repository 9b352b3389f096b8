import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { formatRefusal } from "../run/answer.ts";
import { receive } from "../run/broker.ts";
import { passedSocket } from "./listening.ts";
import { refusalOf } from "./not-held.ts";

/** Whoever made systemd start the service has connected before; others come at their own risk. */
const ANSWER_MS = 500;

/**
 * A service that cannot start tells why those for whom systemd started it. Unanswered they would wait, and systemd would
 * start the service again for them, until it gives the socket up for everybody.
 */
export async function refuseWaiting(error: unknown): Promise<void> {
  const descriptor = passedSocket();
  if (descriptor === undefined) return;
  const answer = formatRefusal({
    exitCode: 69,
    cudaError: "CUDA_ERROR_NO_DEVICE",
    sentence: `the client service of this machine does not start: ${refusalOf(error).sentence}`,
  });
  const server = createServer((connection) => receive(connection, () => Promise.resolve(answer)));
  // There is something else to be told than that this failed, too.
  server.on("error", () => undefined);
  server.listen({ fd: descriptor });
  await sleep(ANSWER_MS);
  server.close();
}

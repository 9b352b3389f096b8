import { generateKeyPair, type KeyObject } from "node:crypto";
import { promisify } from "node:util";
import { replacePrivateFile } from "@farpool/client-api";
import type { Certificate } from "@farpool/contract";
import type { Logger } from "pino";
import { elapsedMs, type Clock, type Moment } from "./clock.ts";

/** How often it is looked whether half of the certificate's life is over: a machine that slept missed its timers. */
const LOOK_MS = 30_000;

export interface WorkerIdentityOptions {
  /** Certificate and key, PEM; the acceptor's workers read it when they start. */
  readonly file: string;
  /** Asks the manager; the key is SPKI, DER, base64. */
  readonly certify: (publicKey: string) => Promise<Certificate>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What the workers of this server prove themselves with. The key is made here and leaves only to them. */
export interface WorkerIdentity {
  /** Makes a key, has it certified, and replaces the file. */
  renew(): Promise<void>;
  /** Renews at half-life until the signal aborts, once there is something to renew. */
  keep(signal: AbortSignal): Promise<void>;
}

export function createWorkerIdentity({
  file,
  certify,
  clock,
  logger,
}: WorkerIdentityOptions): WorkerIdentity {
  let held: { readonly since: Moment; readonly validMs: number } | undefined;

  async function renew(): Promise<void> {
    const { publicKey, privateKey } = await promisify(generateKeyPair)("ec", { namedCurve: "P-256" });
    const since = clock.now();
    const spki = publicKey.export({ type: "spki", format: "der" }).toString("base64");
    const { chain, validSeconds } = await certify(spki);
    write(file, chain, privateKey);
    held = { since, validMs: validSeconds * 1_000 };
    logger.info({ file, validSeconds }, "the workers have a new certificate");
  }

  return {
    renew,
    async keep(signal) {
      while (!signal.aborted) {
        await clock.pause(LOOK_MS, signal);
        if (signal.aborted || held === undefined || elapsedMs(held.since, clock.now()) < held.validMs / 2)
          continue;
        await renew().catch((error: unknown) => {
          const leftMs = held === undefined ? 0 : held.validMs - elapsedMs(held.since, clock.now());
          const leftSeconds = Math.round(leftMs / 1_000);
          logger.warn({ err: error, leftSeconds }, "the workers' certificate is not renewed yet");
        });
      }
    },
  };
}

/** Workers may start meanwhile. */
function write(file: string, chain: string, privateKey: KeyObject): void {
  const key = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  replacePrivateFile(file, `${chain.trimEnd()}\n${key}`);
}

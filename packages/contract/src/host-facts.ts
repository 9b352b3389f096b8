import * as z from "zod";
import { count32Schema, foreignText, plainText } from "./text.ts";
import { instantSchema } from "./workers.ts";

const bytes = z.int().min(0);

/** What an agent tells of the machine it runs on, for `farpool health`. Null is what the machine does not tell. */
export const hostFactsSchema = z.object({
  /** The machine's own clock: the manager compares. */
  at: instantSchema,
  kernel: foreignText(100),
  processors: count32Schema,
  memoryTotalBytes: bytes,
  interfaces: z.array(z.object({ name: plainText(40), mtu: count32Schema })).max(64),
  /** Limits of the agent's own process; acceptor and workers are started with the same. */
  openFilesLimit: z.int().min(0).nullable(),
  lockedMemoryLimitBytes: z.int().min(0).nullable(),
  stateDisk: z.object({ freeBytes: bytes, totalBytes: bytes }).nullable(),
  workerCertificateExpiresAt: instantSchema.nullable(),
});
export type HostFacts = z.output<typeof hostFactsSchema>;

/** As the manager keeps it: times are text by now. */
export const knownHostFactsSchema = hostFactsSchema.extend({
  at: z.iso.datetime(),
  workerCertificateExpiresAt: z.iso.datetime().nullable(),
  /** By how much the machine's clock is ahead of the manager's database; negative: behind. */
  clockAheadMs: z.number(),
});
export type KnownHostFacts = z.output<typeof knownHostFactsSchema>;

import { readFileSync } from "node:fs";
import type { SessionRequest } from "@farpool/contract";
import type { Joined } from "./machines.ts";

export interface Pairs {
  readonly clients: number;
  readonly pairs: number;
  readonly perSecond: number;
  /** From the request to the signed grant in the client's hand. */
  readonly allocate: Percentiles;
  readonly release: Percentiles;
  /** Both. */
  readonly pair: Percentiles;
}

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

interface Load {
  readonly clients: readonly Joined[];
  readonly durationMs: number;
  /** Of the request; every one may say something else. */
  readonly more?: (number: number) => Partial<Pick<SessionRequest, "filters" | "count" | "project">>;
}

/** Every client asks for a session, fetches its grant and ends it again, and so on: each waits for the answer before it goes on. */
export async function measurePairs({ clients, durationMs, more = () => ({}) }: Load): Promise<Pairs> {
  const startedAt = performance.now();
  const allocations: number[] = [];
  const releases: number[] = [];
  let asked = 0;
  await Promise.all(
    clients.map(async ({ client, key }, number) => {
      while (performance.now() - startedAt < durationMs) {
        const from = performance.now();
        asked += 1;
        const { id } = await client.call(
          "createSession",
          {
            body: {
              ...{ count: 1, size: { kind: "whole" as const }, name: null, waitMs: null, filters: [] },
              ...{ clientKey: key.publicKey, project: null, ...more(asked) },
              client: {
                host: `client-${number}`,
                user: `user-${number}`,
                pid: process.pid,
                program: "train",
              },
            },
          },
          { timeoutMs: 60_000 },
        );
        await client.call("grantSession", { params: { sessionId: id }, query: {} }, { timeoutMs: 60_000 });
        const granted = performance.now();
        await client.call(
          "endSession",
          { params: { sessionId: id }, body: { reason: "finished" } },
          { timeoutMs: 60_000 },
        );
        const ended = performance.now();
        allocations.push(granted - from);
        releases.push(ended - granted);
      }
    }),
  );
  const tookMs = performance.now() - startedAt;
  return {
    clients: clients.length,
    pairs: allocations.length,
    perSecond: (allocations.length / tookMs) * 1_000,
    allocate: percentiles(allocations),
    release: percentiles(releases),
    pair: percentiles(allocations.map((ms, index) => ms + (releases[index] ?? 0))),
  };
}

function percentiles(values: readonly number[]): Percentiles {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (part: number): number => sorted[Math.floor((sorted.length - 1) * part)] ?? 0;
  return { p50: at(0.5), p99: at(0.99) };
}

/** What else this machine does, as `uptime` says it: over 1, 5 and 15 minutes. */
export function loadOfMachine(): string {
  return readFileSync("/proc/loadavg", "utf8").split(" ").slice(0, 3).join(", ");
}

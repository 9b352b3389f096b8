import { expect, test } from "vitest";
import { statusSchema, type AcceptorStatus } from "./acceptor-protocol.ts";
import { createSamples } from "./samples.ts";
import { testClock } from "./testing/clock.ts";

const status = (busyMs: number, startedAt = "2026-11-30T11:00:00Z"): AcceptorStatus =>
  statusSchema.parse({
    sessions: [
      {
        id: "s-one",
        gpus: [{ uuid: "GPU-1", memoryLimitBytes: null }],
        workers: [
          {
            pid: 7,
            connectionId: "0".repeat(32),
            startedAt,
            report: {
              calls: 1,
              roundTrips: 1,
              localCalls: 0,
              bytesReceived: 0,
              bytesSent: 0,
              kernelLaunches: 0,
              busyMs,
              memoryPeakBytes: 0,
              perGpu: [{ uuid: "GPU-1", memoryUsedBytes: 4096 }],
            },
          },
        ],
      },
    ],
  });

test("a sample is what was counted since the last look, and is told until it has been told", () => {
  const clock = testClock();
  const samples = createSamples(clock);
  samples.take(status(5_000));
  clock.pass(10_000);
  samples.take(status(9_000.4));
  const told = samples.pending();
  expect(told).toMatchObject([
    { sessionId: "s-one", at: "2026-11-30T11:59:50.000Z", busyMs: 0 },
    { at: "2026-11-30T12:00:00.000Z", busyMs: 4_000, memoryUsedBytes: 4096 },
  ]);
  clock.pass(10_000);
  samples.take(status(9_500));
  samples.told(told);
  expect(samples.pending()).toMatchObject([{ busyMs: 500 }]);
});

test("a worker that has just started is told from its first moment on", () => {
  const samples = createSamples(testClock());
  samples.take(status(700, "2026-11-30T11:59:58Z"));
  expect(samples.pending()).toMatchObject([{ busyMs: 700 }]);
});

test("while the manager is away the oldest go first", () => {
  const clock = testClock();
  const samples = createSamples(clock);
  const same = status(1);
  for (let time = 0; time < 100_010; time += 1) {
    samples.take(same);
    clock.pass(10_000);
  }
  const first = samples.pending()[0];
  expect(first?.at).toBe(new Date(Date.parse("2026-11-30T11:59:50Z") + 10 * 10_000).toISOString());
});

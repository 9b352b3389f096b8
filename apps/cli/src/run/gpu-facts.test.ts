import { gpuUuidSchema, type SessionGpus } from "@farpool/contract";
import { expect, test } from "vitest";
import { RefusedError } from "./answer.ts";
import { createGpuFacts } from "./gpu-facts.ts";

const told: SessionGpus = {
  driverVersion: "13.0",
  driverRelease: "580.95.05",
  simulated: false,
  gpus: [
    {
      uuid: gpuUuidSchema.parse("GPU-1"),
      name: "NVIDIA H200",
      pciBusId: "0000:c1:00.0",
      computeCapability: "9.0",
      multiprocessors: 132,
      memoryTotalBytes: 1_000,
      memoryUsedBytes: 300,
      busyPercent: 61,
      health: {
        temperatureCelsius: 43,
        eccCorrected: 1,
        eccUncorrected: 0,
        throttling: ["heat (software)", "power brake"],
        mig: null,
      },
      processes: [
        { pid: 77, program: "python3 -m\ntrain", memoryUsedBytes: 200, busyPercent: 61 },
        { pid: 78, program: "idle", memoryUsedBytes: 100, busyPercent: null },
      ],
    },
  ],
};

test("what is known of the GPUs is told line by line, and what is not known is left out", async () => {
  const facts = createGpuFacts(() => Promise.resolve(told));
  expect(await facts.lines()).toEqual([
    "cuda 13.0",
    "release 580.95.05",
    "simulated no",
    "gpu GPU-1",
    "name NVIDIA H200",
    "pci 0000:c1:00.0",
    "capability 9.0",
    "multiprocessors 132",
    "memory 1000 300",
    "busy 61",
    "temperature 43",
    "ecc 1 0",
    `throttling ${0x20 | 0x80}`,
    "process 77 200 61 python3 -m train",
    "process 78 100 - idle",
  ]);
});

test("many questions at once are one to the manager, and so are those of the same second", async () => {
  let asked = 0;
  let time = 0;
  const facts = createGpuFacts(
    () => {
      asked += 1;
      return Promise.resolve(told);
    },
    () => time,
  );
  await Promise.all(Array.from({ length: 50 }, () => facts.lines()));
  time = 999;
  await facts.lines();
  expect(asked).toBe(1);
  time = 1_001;
  await facts.lines();
  expect(asked).toBe(2);
});

test("while the manager is away the last answer holds, and before the first one the question is refused", async () => {
  let time = 0;
  let isAway = true;
  const facts = createGpuFacts(
    () => (isAway ? Promise.reject(new Error("the manager is away")) : Promise.resolve(told)),
    () => time,
  );
  await expect(facts.lines()).rejects.toEqual(
    new RefusedError({
      exitCode: 69,
      cudaError: "CUDA_ERROR_SYSTEM_NOT_READY",
      sentence: "the manager is away",
    }),
  );
  isAway = false;
  const before = await facts.lines();
  isAway = true;
  time = 60_000;
  expect(await facts.lines()).toEqual(before);
});

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { temporaryFolder } from "@farpool/testkit";
import { expect, test } from "vitest";
import { describeOrder, readLocalGpu, type Surroundings } from "./gpu-order.ts";

const driver = "/usr/lib64/libcuda.so.1";
const own = { scope: "user", refusal: null } as const;
const machines = { scope: "system", refusal: null } as const;
const around: Surroundings = {
  session: undefined,
  wanted: undefined,
  services: [],
  localGpu: "pool-first",
  driver: undefined,
  loaded: { path: "/opt/farpool/lib/shim/libcuda.so.1", isShim: true },
};

test.each([
  [
    "a session is before all others",
    { session: "/tmp/s", wanted: "local", services: [own], driver },
    "session",
  ],
  ["FARPOOL=local is the machine's own", { wanted: "local", services: [machines], driver }, "local-driver"],
  ["FARPOOL=local without a driver is nothing", { wanted: "local", services: [machines] }, "no-device"],
  ["FARPOOL=pool never is the machine's own", { wanted: "pool", localGpu: "first", driver }, "no-device"],
  [
    "FARPOOL=pool is a service",
    { wanted: "pool", localGpu: "first", services: [own], driver },
    "own-service",
  ],
  ["another FARPOOL is a mistake", { wanted: "gpu", services: [own], driver }, "no-device"],
  ["one's own service is before the machine's", { services: [own, machines], driver }, "own-service"],
  ["a service comes before a driver", { services: [machines], driver }, "machine-service"],
  ["a driver before it", { services: [machines], driver, localGpu: "first" }, "local-driver"],
  ["a driver that is not there", { services: [machines], localGpu: "first" }, "machine-service"],
  [
    "who is refused gets the driver",
    { services: [{ ...machines, refusal: "not you" }], driver },
    "local-driver",
  ],
  ["and with 'off' nothing", { services: [], driver, localGpu: "off" }, "no-device"],
  ["without a service the driver", { driver }, "local-driver"],
  ["another library first", { services: [own], loaded: { path: driver, isShim: false } }, "local-driver"],
  ["no library", { session: "/tmp/s", services: [own], loaded: undefined }, "no-device"],
] as const satisfies ReadonlyArray<readonly [string, Partial<Surroundings>, string]>)(
  "%s",
  (_name, changes, source) => {
    expect(describeOrder({ ...around, ...changes }).source).toBe(source);
  },
);

test("what a person can do about it is in the sentence", () => {
  const sentence = (changes: Partial<Surroundings>): string =>
    describeOrder({ ...around, ...changes }).sentence;

  expect(sentence({ wanted: "gpu" })).toBe(
    "no device: FARPOOL is 'gpu', expected 'local' or 'pool', or nothing",
  );
  expect(sentence({ services: [{ ...machines, refusal: "it is for ann" }] })).toBe(
    "no device: it is for ann",
  );
  expect(sentence({})).toContain("'farpool run -n 1 -- PROGRAM'");
  expect(sentence({ driver })).toBe(`the local driver, ${driver}`);
});

test("the order is the machine's: what its file says of its own GPUs moves the driver", () => {
  const order = (localGpu: Surroundings["localGpu"]): string =>
    describeOrder({ ...around, localGpu }).order.join(" → ");

  expect(order("pool-first")).toBe(
    "FARPOOL_SESSION → FARPOOL=local|pool → your own service → this machine's service → the local driver → no device",
  );
  expect(order("first")).toContain("FARPOOL=local|pool → the local driver → your own service");
  expect(order("off")).not.toContain("local driver");
});

test("of the service's file the line is read that the shim reads", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "client-service.yaml");
  const read = (text: string) => {
    writeFileSync(file, text);
    return readLocalGpu(file);
  };

  expect(readLocalGpu(file)).toBe("pool-first");
  expect(read("gpus: 1\nlocal-gpu: first\n")).toBe("first");
  expect(read('local-gpu: "off" # no card\n')).toBe("off");
  expect(read("gpus: 1\n# local-gpu: first\n")).toBe("pool-first");
  expect(read("local-gpu: sometimes\n")).toBe("pool-first");
});

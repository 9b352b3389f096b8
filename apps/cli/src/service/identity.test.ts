import { gpuUuidSchema, type ServiceModel } from "@farpool/contract";
import { generateSigningKey } from "@farpool/identity";
import { expect, test } from "vitest";
import { gpuLines } from "../run/gpu-facts.ts";
import { asNamed, chooseIdentity, identityFilters, offeredGpus } from "./identity.ts";

const clientKey = generateSigningKey().thumbprint;
const GIB = 2 ** 30;
const model = (name: string, changes: Partial<ServiceModel> = {}): ServiceModel => ({
  name,
  memoryTotalBytes: 8 * GIB,
  memoryBytes: 4 * GIB,
  driverVersion: "13.0",
  gpus: 1,
  attributes: [[75, 8]],
  ...changes,
});
const idle = { count: 2, clientKey, isInUse: false };

test("the GPUs are called the same as long as the pool has them", () => {
  const first = chooseIdentity(null, [model("A"), model("B")], idle);
  const again = chooseIdentity(first, [model("B", { gpus: 9 }), model("A")], idle);
  const anew = chooseIdentity(null, [model("A")], idle);

  expect(first).toMatchObject({ model: "A", memoryBytes: 4 * GIB });
  expect(again).toEqual(first);
  expect(anew).toEqual(first);
  expect(first.gpus.map(({ uuid }) => gpuUuidSchema.safeParse(uuid).success)).toEqual([true, true]);
  expect(new Set(first.gpus.flatMap(({ uuid, pciBusId }) => [uuid, pciBusId])).size).toBe(4);
  expect(identityFilters(first)).toEqual(["gpu.name=A", "gpu.memory>=8192MiB", "gpu.memory<8193MiB"]);
});

test("another model or size is taken only when no program has been told of the old one", () => {
  const first = chooseIdentity(null, [model("A")], idle);

  expect(chooseIdentity(first, [model("B")], { ...idle, isInUse: true })).toEqual(first);
  expect(chooseIdentity(first, [model("B")], idle).model).toBe("B");
  expect(chooseIdentity(first, [model("A")], { ...idle, count: 1 }).gpus).toHaveLength(1);
  expect(chooseIdentity(first, [], idle)).toEqual(first);
});

test("without a GPU that will do there is no identity, and a server that tells no attributes has none", () => {
  expect(() => chooseIdentity(null, [], idle)).toThrow("the pool has no GPU");
  expect(() => chooseIdentity(null, [model("A", { attributes: [] })], idle)).toThrow("the pool has no GPU");
});

test("NVML names the GPUs as CUDA does, before there is a session and in one", () => {
  const identity = chooseIdentity(
    null,
    [
      model("A", {
        attributes: [
          [16, 8],
          [75, 9],
          [76, 0],
        ],
      }),
    ],
    { ...idle, count: 1 },
  );
  const [{ uuid, pciBusId } = { uuid: "", pciBusId: "" }] = identity.gpus;

  expect(gpuLines(offeredGpus(identity))).toEqual([
    "cuda 13.0",
    `gpu ${uuid}`,
    "name A",
    `pci ${pciBusId}`,
    "capability 9.0",
    "multiprocessors 8",
    `memory ${4 * GIB} 0`,
    "busy 0",
  ]);
  const [offered] = offeredGpus(identity).gpus;
  if (offered === undefined) throw new Error("no GPU is offered");
  const physical = {
    ...offered,
    uuid: gpuUuidSchema.parse("GPU-1"),
    pciBusId: "0000:01:00.0",
    busyPercent: 61,
  };
  const told = { driverVersion: "13.2", driverRelease: "580.95.05", simulated: true, gpus: [physical] };
  expect(asNamed(told, identity)).toEqual({
    ...told,
    driverVersion: "13.0",
    gpus: [{ ...physical, uuid, pciBusId }],
  });
});

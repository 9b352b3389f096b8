import { gpuUuidSchema, parseFilter, type Size } from "@farpool/contract";
import { expect, test } from "vitest";
import type { ServerCapacity } from "./capacity.ts";
import { place } from "./placement.ts";
import { PoolIndex } from "./pool-index.ts";
import { refusalOf } from "./refusal.ts";
import { running, server, sessionId } from "./testing/servers.ts";
import type { Wish } from "./wish.ts";

const WHOLE: Size = { kind: "whole" };
const HALF: Size = { kind: "share", share: 0.5 };
const memory = (gib: number): Size => ({ kind: "memory", memoryMib: gib * 1024 });

const placed = (wish: Wish, servers: readonly ServerCapacity[]): string[] | undefined =>
  place(wish, new PoolIndex(servers))?.servers.flatMap(({ gpus }) => gpus.map(({ uuid }) => uuid));

test("a slice goes where it leaves the least: beside another one", () => {
  expect(placed({ count: 1, size: HALF }, [server(1, [[], [8], [4]])])).toEqual(["GPU-1-1"]);
});

test("a slice that fits beside others does not break up a free GPU on another server", () => {
  expect(placed({ count: 1, size: memory(4) }, [server(1, [[]]), server(2, [[4], []])])).toEqual(["GPU-2-0"]);
});

test("a whole GPU needs one that nobody uses", () => {
  expect(placed({ count: 1, size: WHOLE }, [server(1, [[1], []])])).toEqual(["GPU-1-1"]);
  expect(placed({ count: 1, size: WHOLE }, [server(1, [[1], [null]])])).toBeUndefined();
});

test("nothing is placed beside a whole GPU's session", () => {
  expect(placed({ count: 1, size: memory(1) }, [server(1, [[null]])])).toBeUndefined();
});

test("the slices of a GPU never add up to more than it has", () => {
  expect(placed({ count: 1, size: memory(5) }, [server(1, [[6, 6]])])).toBeUndefined();
  expect(placed({ count: 1, size: memory(4) }, [server(1, [[6, 6]])])).toEqual(["GPU-1-0"]);
});

test("all GPUs of a session come from one server, or none do", () => {
  expect(placed({ count: 2, size: WHOLE }, [server(1, [[]]), server(2, [[]])])).toBeUndefined();
  expect(placed({ count: 2, size: WHOLE }, [server(1, [[]]), server(2, [[], []])])).toEqual([
    "GPU-2-0",
    "GPU-2-1",
  ]);
});

test("the server that is left with the least is taken", () => {
  expect(placed({ count: 1, size: WHOLE }, [server(1, [[], [], []]), server(2, [[], [null]])])).toEqual([
    "GPU-2-0",
  ]);
});

test("a server that takes no sessions gets none", () => {
  expect(placed({ count: 1, size: WHOLE }, [server(1, [[]], { accepts: false })])).toBeUndefined();
});

test("GPUs of several servers only for who allows it, of as few as possible", () => {
  const servers = [server(1, [[], []]), server(2, [[], [], []]), server(3, [[]])];
  expect(placed({ count: 4, size: WHOLE }, servers)).toBeUndefined();
  const spread = { count: 4, size: WHOLE, spreadServers: true };
  expect(placed(spread, servers)).toEqual(["GPU-2-0", "GPU-2-1", "GPU-2-2", "GPU-3-0"]);
  expect(placed({ ...spread, count: 3 }, servers)).toEqual(["GPU-2-0", "GPU-2-1", "GPU-2-2"]);
  expect(placed({ ...spread, count: 7 }, servers)).toBeUndefined();
  expect(
    placed({ count: 4, size: HALF, spreadServers: true }, [server(1, [[8], [8]]), server(2, [[8], [8]])]),
  ).toHaveLength(4);
  // A program is connected to 64 servers at most.
  const many = Array.from({ length: 65 }, (_, number) => server(number + 1, [[]]));
  expect(placed({ ...spread, count: 64 }, many)).toHaveLength(64);
  expect(placed({ ...spread, count: 65 }, many)).toBeUndefined();
  expect(refusalOf({ ...spread, count: 65 }, many)?.message).toContain("64 ×");
});

test("who had GPUs on several servers gets them on one where that is possible, else those of before", () => {
  const preferred = ["GPU-2-0", "GPU-3-0"].map((uuid) => gpuUuidSchema.parse(uuid));
  const wish = { count: 2, size: WHOLE, preferred, spreadServers: true };
  expect(placed(wish, [server(1, [[], []]), server(2, [[]]), server(3, [[]])])).toEqual([
    "GPU-1-0",
    "GPU-1-1",
  ]);
  expect(placed(wish, [server(1, [[]]), server(2, [[]]), server(3, [[]])])).toEqual(["GPU-2-0", "GPU-3-0"]);
});

test("who comes back gets the GPUs of before, if all of them are free", () => {
  const preferred = ["GPU-2-1", "GPU-2-0"].map((uuid) => gpuUuidSchema.parse(uuid));
  const wish = { count: 1, size: WHOLE, preferred };
  expect(placed(wish, [server(1, [[]]), server(2, [[], []])])).toEqual(["GPU-2-1"]);
  expect(placed(wish, [server(1, [[]]), server(2, [[], [4]])])).toEqual(["GPU-1-0"]);
  expect(placed({ ...wish, size: HALF }, [server(1, [[8]]), server(2, [[], [4]])])).toEqual(["GPU-2-1"]);
  expect(placed({ ...wish, count: 2 }, [server(1, [[], []]), server(2, [[], []])])).toEqual([
    "GPU-2-0",
    "GPU-2-1",
  ]);
  const away = server(2, [[], []], { accepts: false });
  expect(placed(wish, [server(1, [[]]), away])).toEqual(["GPU-1-0"]);
});

test("a filter leaves only the GPUs that have it", () => {
  const servers = [server(1, [[]]), server(2, [[]], { gib: 80 })];
  const filters = [parseFilter("gpu.memory>=40GiB")];
  expect(placed({ count: 1, size: WHOLE, filters }, servers)).toEqual(["GPU-2-0"]);
  expect(placed({ count: 2, size: WHOLE, filters }, servers)).toBeUndefined();
});

test("only servers that are allowed, also where the GPUs of before are elsewhere", () => {
  const servers = [server(1, [[]]), server(2, [[], []])];
  const only = new Set([servers[1]?.id].flatMap((id) => id ?? []));
  const preferred = [gpuUuidSchema.parse("GPU-1-0")];
  expect(placed({ count: 1, size: WHOLE, only, preferred }, servers)).toEqual(["GPU-2-0"]);
  expect(placed({ count: 1, size: WHOLE, only: new Set() }, servers)).toBeUndefined();
  expect(refusalOf({ count: 2, size: WHOLE, only: new Set() }, servers)).toMatchObject({
    code: "FARPOOL_NEVER_FITS",
  });
});

test("what is taken and given back leaves the sums as they were", () => {
  const index = new PoolIndex([server(1, [[], []])]);
  const before = [...index.freeOnServer, ...index.unusedOnServer, ...index.largestFreeOnServer];
  const session = running("one", [1, 0, 1]);
  index.occupy(session);
  expect(place({ count: 1, size: WHOLE }, index)).toBeUndefined();
  expect([...index.unusedOnServer]).toEqual([0]);
  index.vacate(sessionId("one"), session.placement);
  expect([...index.freeOnServer, ...index.unusedOnServer, ...index.largestFreeOnServer]).toEqual(before);
});

test("what can never fit is refused, naming the largest", () => {
  const servers = [server(1, [[null], []]), server(2, [[]], { gib: 32 })];
  expect(refusalOf({ count: 3, size: WHOLE }, servers)).toMatchObject({
    code: "FARPOOL_NEVER_FITS",
    message: expect.stringContaining("can ever grant is 2 × Test GPU"),
  });
  expect(refusalOf({ count: 1, size: memory(33) }, servers)).toMatchObject({
    code: "FARPOOL_SIZE_TOO_LARGE",
    hint: "the largest value is -m 32768",
  });
  expect(refusalOf({ count: 2, size: memory(20) }, servers)).toMatchObject({ code: "FARPOOL_NEVER_FITS" });
  expect(refusalOf({ count: 2, size: WHOLE }, servers)).toBeUndefined();
  expect(refusalOf({ count: 3, size: WHOLE, spreadServers: true }, servers)).toBeUndefined();
  expect(refusalOf({ count: 1, size: WHOLE }, [])).toMatchObject({ message: "the pool has no GPUs" });
});

test("a refusal names the filter that nothing passes", () => {
  const servers = [server(1, [[], []]), server(2, [[]], { gib: 32, gpu: { name: "Other GPU" } })];
  const filters = (...texts: string[]) => ({ count: 1, size: WHOLE, filters: texts.map(parseFilter) });
  expect(refusalOf(filters("gpu.memory>=40GiB"), servers)).toMatchObject({
    message: "no GPU of the pool has gpu.memory>=40GiB",
  });
  expect(refusalOf(filters("gpu.memory>=32GiB", "gpu.name=test*"), servers)).toMatchObject({
    message: "no GPU of the pool has gpu.memory>=32GiB and gpu.name=test* at once",
  });
  expect(refusalOf({ ...filters("gpu.name=other gpu"), count: 2 }, servers)).toMatchObject({
    message:
      "2 GPUs (gpu.name=other gpu) on one server: the largest session of this size that the pool can ever grant is 1 × Other GPU",
  });
});

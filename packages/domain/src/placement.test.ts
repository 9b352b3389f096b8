import { gpuUuidSchema, serverIdSchema, sessionIdSchema, type Size } from "@farpool/contract";
import { expect, test } from "vitest";
import type { GpuCapacity, ServerCapacity } from "./capacity.ts";
import { place } from "./placement.ts";
import { schedule } from "./queue.ts";
import { refusalOf } from "./refusal.ts";

const GIB = 1024 ** 3;
const WHOLE: Size = { kind: "whole" };
const HALF: Size = { kind: "share", share: 0.5 };
const memory = (gib: number): Size => ({ kind: "memory", memoryMib: gib * 1024 });

function server(digit: number, gpus: ReadonlyArray<ReadonlyArray<number | null>>, gib = 16): ServerCapacity {
  return {
    id: serverIdSchema.parse(`00000000-0000-4000-8000-00000000000${digit}`),
    name: `gpu-0${digit}`,
    accepts: true,
    gpus: gpus.map((slices, index): GpuCapacity => ({
      uuid: gpuUuidSchema.parse(`GPU-${digit}-${index}`),
      name: "Test GPU",
      index,
      totalBytes: gib * GIB,
      slices: slices.map((slice) => (slice === null ? null : slice * GIB)),
    })),
  };
}

const placed = (
  wish: { count: number; size: Size },
  servers: readonly ServerCapacity[],
): string[] | undefined => place(wish, servers)?.gpus.map((gpu) => gpu.uuid);

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
  expect(placed({ count: 1, size: WHOLE }, [{ ...server(1, [[]]), accepts: false }])).toBeUndefined();
});

const wish = (name: string, count: number, size: Size) => ({
  id: sessionIdSchema.parse(`s-${name}`),
  count,
  size,
});

test("who came first is served first: a smaller one does not overtake on the same server", () => {
  const decisions = schedule([wish("big", 2, WHOLE), wish("small", 1, WHOLE)], [server(1, [[null], []])]);
  expect(decisions).toMatchObject([
    { id: "s-big", kind: "wait", position: 1 },
    { id: "s-small", kind: "wait", position: 2 },
  ]);
});

test("one that waits for a large server does not hold up a small one", () => {
  const decisions = schedule(
    [wish("big", 2, WHOLE), wish("small", 1, WHOLE)],
    [server(1, [[null], []]), server(2, [[]])],
  );
  expect(decisions).toMatchObject([
    { id: "s-big", kind: "wait" },
    { id: "s-small", kind: "grant", placement: { gpus: [{ uuid: "GPU-2-0" }] } },
  ]);
});

test("a pass never gives the same memory twice", () => {
  const decisions = schedule(
    [wish("aaa", 1, HALF), wish("bbb", 1, HALF), wish("ccc", 1, HALF)],
    [server(1, [[]])],
  );
  expect(decisions.map(({ kind }) => kind)).toEqual(["grant", "grant", "wait"]);
});

test("what can never fit is refused, naming the largest", () => {
  const servers = [server(1, [[null], []]), server(2, [[]], 32)];
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
  expect(refusalOf({ count: 1, size: WHOLE }, [])).toMatchObject({ message: "the pool has no GPUs" });
});

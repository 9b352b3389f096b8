import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gpuUuidSchema, sessionIdSchema, type DesiredSession } from "@farpool/contract";
import { temporaryFolder } from "@farpool/testkit";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { createEnds } from "./ends.ts";

const logger = pino({ level: "silent" });
const id = (name: string) => sessionIdSchema.parse(`s-${name}`);

function session(name: string, endsInMs: number | null): DesiredSession {
  const gpus = [{ uuid: gpuUuidSchema.parse("GPU-1"), memoryLimitBytes: null }];
  return { id: id(name), secret: "0".repeat(64), gpus, graceSeconds: 120, endsInMs };
}

function clockOf(state: { wallMs: number; monotonicMs: number }) {
  return { now: () => ({ ...state }), pause: () => Promise.resolve() };
}

function start() {
  const folder = temporaryFolder();
  onTestFinished(() => folder[Symbol.dispose]());
  const file = join(folder.path, "session-ends.json");
  const time = { wallMs: Date.parse("2026-11-30T12:00:00Z"), monotonicMs: 1_000 };
  const pass = (ms: number): void => {
    time.wallMs += ms;
    time.monotonicMs += ms;
  };
  return { file, time, pass, open: () => createEnds({ file, clock: clockOf(time), logger }) };
}

test("a session is over a little after its end, so that a manager that is there is first", () => {
  const { pass, open } = start();
  const ends = open();
  ends.note([session("one", 60_000), session("free", null)]);
  pass(60_000);
  expect(ends.isOver(id("one"))).toBe(false);
  pass(ends.nextMs() ?? 0);
  expect(ends.isOver(id("one"))).toBe(true);
  expect([ends.isOver(id("free")), ends.isOver(id("unknown")), ends.nextMs()]).toEqual([
    false,
    false,
    undefined,
  ]);
});

test("who is given more time keeps it, and a clock that is set forward ends nothing", () => {
  const { time, pass, open } = start();
  const ends = open();
  ends.note([session("one", 60_000)]);
  time.wallMs += 3_600_000;
  expect(ends.isOver(id("one"))).toBe(false);
  pass(64_000);
  ends.note([session("one", 600_000)]);
  pass(60_000);
  expect(ends.isOver(id("one"))).toBe(false);
});

test("the next agent of the server ends what is over while no manager answers, and lets one that does speak first", () => {
  const { time, pass, open } = start();
  open().note([session("one", 60_000)]);
  time.monotonicMs = 5;
  pass(70_000);
  const next = open();
  const told = open();
  expect(next.isOver(id("one"))).toBe(false);
  // It was extended while no agent was here.
  told.note([session("one", 600_000)]);
  pass(next.nextMs() ?? 0);
  expect([next.isOver(id("one")), told.isOver(id("one"))]).toEqual([true, false]);
});

test("when sessions end is kept in a file that only its owner reads", () => {
  const { file, open } = start();
  open().note([session("one", 60_000)]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(file, "utf8"))).toEqual([
    { id: "s-one", endsAt: "2026-11-30T12:01:05.000Z" },
  ]);
});

test("a file that is none is as no file", () => {
  const { file, open } = start();
  writeFileSync(file, "no");
  expect(open().nextMs()).toBeUndefined();
});

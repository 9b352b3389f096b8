import { gpuUuidSchema, sessionIdSchema, type DesiredSession } from "@farpool/contract";
import { expect, test } from "vitest";
import { planSessions } from "./plan.ts";

const id = (name: string) => sessionIdSchema.parse(`s-${name}`);
const wanted = (name: string): DesiredSession => ({
  id: id(name),
  secret: "0".repeat(64),
  gpus: [{ uuid: gpuUuidSchema.parse("GPU-1"), memoryLimitBytes: null }],
  graceSeconds: 120,
  endsInMs: null,
});

test("what is wanted and missing is opened, what is held and unknown is closed, the rest is adopted", () => {
  const plan = planSessions(
    [wanted("new"), wanted("kept")],
    [
      { id: id("kept"), isOpen: true },
      { id: id("old"), isOpen: true },
    ],
  );
  expect(plan.open.map((session) => session.id)).toEqual(["s-new"]);
  expect(plan.close).toEqual(["s-old"]);
});

test("what an acceptor took over from one before it is opened again or closed", () => {
  const plan = planSessions(
    [wanted("kept")],
    [
      { id: id("kept"), isOpen: false },
      { id: id("old"), isOpen: false },
    ],
  );
  expect(plan.open.map((session) => session.id)).toEqual(["s-kept"]);
  expect(plan.close).toEqual(["s-old"]);
});

test("an acceptor that started anew gets all sessions again", () => {
  expect(planSessions([wanted("one"), wanted("two")], []).open).toHaveLength(2);
});

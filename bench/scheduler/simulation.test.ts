import { expect, test } from "vitest";
import { measure } from "./measure.ts";
import { boundsOf, EQUALS, isMet, SMALL } from "./scenario.ts";
import { simulate } from "./simulate.ts";

const simulation = simulate(SMALL);
const gpus = SMALL.servers * SMALL.gpusPerServer;
const figures = measure(simulation, EQUALS, gpus);

test.each(boundsOf(figures))("$name: $kind $limit", (bound) => {
  expect({ figure: bound.figure, isMet: isMet(bound) }).toEqual({ figure: bound.figure, isMet: true });
});

test("all sessions ran once, for as long as they take, and never more GPUs than there are", () => {
  expect(new Set(simulation.finished.map(({ session }) => session.id)).size).toBe(SMALL.sessions);
  for (const { session, grantedAtMs, endedAtMs } of simulation.finished) {
    expect(grantedAtMs).toBeGreaterThanOrEqual(session.requestedAtMs);
    expect(endedAtMs - grantedAtMs).toBeCloseTo(session.lengthMs);
  }
  expect(Math.max(...simulation.passes.map(({ heldGpus }) => heldGpus))).toBeLessThanOrEqual(gpus);
});

test("little is left idle for the sake of large sessions, and a modest user waits less than all others", () => {
  expect(figures.competition.utilisation).toBeGreaterThan(0.95);
  const { modest, ...others } = figures.waitsByUser;
  for (const other of Object.values(others)) expect(modest?.meanMs).toBeLessThan(other.meanMs);
});

test("the same seed gives the same simulation", () => {
  const small = { ...SMALL, servers: 4, sessions: 200 };
  const ends = () => simulate(small).finished.map(({ session, endedAtMs }) => `${session.id} ${endedAtMs}`);
  expect(ends()).toEqual(ends());
});

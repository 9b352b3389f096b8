import { expect, test } from "vitest";
import { isMet, judge } from "./goals.ts";
import type { Case, Report, Spread } from "./measurements.ts";

const spread = (median: number): Spread => ({ median, low: median, high: median, min: median, max: median });

function report(cases: readonly Case[]): Report {
  return { device: "null", raw: "tcp", rounds: 9, cases };
}

function pair(name: string, [other, otherMedian]: readonly [string, number], own: number): Case {
  return {
    name,
    unit: "µs",
    series: [
      { way: other, ...spread(otherMedian) },
      { way: "cuda", ...spread(own) },
    ],
    ratios: [{ over: other, ...spread(own / otherMedian) }],
  };
}

test("goals are judged by ratios, differences and rates; what was not measured is not judged", () => {
  const tcp = report([
    pair("launch", ["raw x64", 100], 240),
    pair("stream synchronize", ["raw spinning", 9], 12),
    pair("bulk HtoD 64 MiB", ["raw", 5], 4.6),
    pair("HtoD 64 KiB", ["raw send", 9], 14),
  ]);
  const empty = report([]);
  const verdicts = judge({
    pooled: { tcp, unix: empty },
    direct: empty,
    idle: { client: 0.002, worker: 0.02 },
  });
  const said = verdicts.map((verdict) => [verdict.goal, verdict.subject, isMet(verdict)]);
  expect(said).toEqual([
    ["G1", "launch, to raw batched records (64 in a send)", true],
    ["G1", "launch, to the nominal 2.4 µs of a driver", true],
    ["G2", "empty stream synchronize, beyond a raw spinning round trip", false],
    ["G2", "idle client, of a core", true],
    ["G2", "idle worker, of a core", false],
    ["G6", "bulk HtoD 64 MiB, to the raw transport", true],
    ["G7", "synchronous HtoD of 64 KiB, to 1 µs + bytes at the raw bulk rate", true],
  ]);
});

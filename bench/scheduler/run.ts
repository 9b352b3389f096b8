import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { formatDuration } from "@farpool/contract";
import { measure, type Figures, type Waits } from "./measure.ts";
import { boundsOf, EQUALS, isMet, LARGE, SMALL } from "./scenario.ts";
import { simulate, type Simulation, type SimulationOptions } from "./simulate.ts";
import { timeScheduler, type Timing } from "./timing.ts";

/** `node bench/scheduler/run.ts [--small] [--seed N] [--results FILE]`: figures of the scheduler, as Markdown. */
const { values } = parseArgs({
  options: { small: { type: "boolean" }, seed: { type: "string" }, results: { type: "string" } },
});
const scenario = values.small === true ? SMALL : LARGE;
const options = { ...scenario, seed: values.seed === undefined ? scenario.seed : Number(values.seed) };
const timings = timeScheduler(options.seed);
const startedAt = performance.now();
const simulation = simulate(options);
const tookMs = performance.now() - startedAt;
const figures = measure(simulation, EQUALS, options.servers * options.gpusPerServer);
const page = [
  machine(),
  "",
  ...timingTable(timings),
  "",
  ...describeScenario(options, simulation, tookMs),
  "",
  ...boundsTable(figures),
  "",
  ...waitsTable("size", figures.waits),
  "",
  strictLine(figures),
  "",
  ...waitsTable("user", figures.waitsByUser),
  "",
  ...competitionLines(figures),
  "",
  ...passLines(simulation),
  "",
].join("\n");
console.log(page);
if (values.results !== undefined) writeFileSync(values.results, page);
process.exitCode = boundsOf(figures).every(isMet) ? 0 : 1;

function machine(): string {
  const processors = cpus();
  return `${processors.length} × ${processors[0]?.model ?? "?"}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}.`;
}

function timingTable(list: readonly Timing[]): string[] {
  return [
    "| what | wall clock, median ms | fastest ms | processor, median ms | of |",
    "|---|---|---|---|---|",
    ...list.map(
      ({ name, medianMs, fastestMs, processorMs, rounds }) =>
        `| ${name} | ${medianMs.toFixed(3)} | ${fastestMs.toFixed(3)} | ${processorMs.toFixed(3)} | ${rounds} |`,
    ),
  ];
}

function describeScenario(
  { seed, servers, gpusPerServer, sessions, load, knownShare, passEveryMs }: SimulationOptions,
  { passes, lastArrivalMs }: Simulation,
  took: number,
): string[] {
  return [
    `Seed ${seed}: ${sessions} sessions on ${servers} servers with ${gpusPerServer} GPUs each arrive within ${formatDuration(lastArrivalMs)}, ${load} times what the pool can do meanwhile; ${knownShare * 100} % of them say how long they may take. ${passes.length} passes, ${passEveryMs / 1_000} s apart; simulated in ${formatDuration(took)}.`,
  ];
}

function boundsTable(all: Figures): string[] {
  return [
    "| bound | figure | limit | |",
    "|---|---|---|---|",
    ...boundsOf(all).map(
      (bound) =>
        `| ${bound.name} | ${bound.figure.toFixed(4)} | ${bound.kind} ${bound.limit} | ${isMet(bound) ? "met" : "missed"} |`,
    ),
  ];
}

function waitsTable(by: string, waits: Readonly<Record<string, Waits>>): string[] {
  return [
    `| ${by} | sessions | mean waiting | longest |`,
    "|---|---|---|---|",
    ...Object.entries(waits).map(
      ([name, { sessions, meanMs, maxMs }]) =>
        `| ${name} | ${sessions} | ${formatDuration(meanMs)} | ${formatDuration(maxMs)} |`,
    ),
  ];
}

/** Stricter readings of "an 8-GPU session waits at most three times as long as the mean session". */
function strictLine({ waits, eightWaits, meanLengthMs }: Figures): string {
  const [all, eight] = [waits["all"], waits["8 GPUs"]];
  const [user, worst] = Object.entries(eightWaits).reduce((a, b) => (b[1] > a[1] ? b : a));
  return [
    `Stricter: the 8-GPU session that waited longest waited ${((eight?.maxMs ?? 0) / (all?.meanMs ?? 1)).toFixed(2)} times as long as all sessions on average;`,
    `within one user the mean of 8-GPU sessions is ${worst.toFixed(2)} times the mean of all at most (${user});`,
    `the mean waiting of 8-GPU sessions is ${((eight?.meanMs ?? 0) / meanLengthMs).toFixed(2)} times the mean length of a session.`,
  ].join(" ");
}

function competitionLines({ competition, meanLengthMs }: Figures): string[] {
  const { durationMs, gpuSeconds, utilisation } = competition;
  return [
    `All equal users had sessions waiting for ${formatDuration(durationMs)}; meanwhile ${(utilisation * 100).toFixed(2)} % of the GPUs were held. A session takes ${formatDuration(meanLengthMs)} on average. GPU-hours meanwhile:`,
    "",
    "| user | GPU-hours |",
    "|---|---|",
    ...Object.entries(gpuSeconds).map(([user, amount]) => `| ${user} | ${Math.round(amount / 3_600)} |`),
  ];
}

function passLines({ passes }: Simulation): string[] {
  const groups = [
    ["up to 100", 0, 100],
    ["101 to 1,000", 101, 1_000],
    ["1,001 to 10,000", 1_001, 10_000],
    ["more", 10_001, Infinity],
  ] as const;
  return [
    "| sessions left waiting by a pass | passes | median ms | 99 % within ms |",
    "|---|---|---|---|",
    ...groups.flatMap(([name, from, to]) => {
      const times = passes
        .filter(({ waiting }) => waiting >= from && waiting <= to)
        .map(({ tookMs: ms }) => ms)
        .sort((a, b) => a - b);
      const at = (part: number): string => (times[Math.floor(times.length * part)] ?? 0).toFixed(2);
      return times.length === 0 ? [] : [`| ${name} | ${times.length} | ${at(0.5)} | ${at(0.99)} |`];
    }),
  ];
}

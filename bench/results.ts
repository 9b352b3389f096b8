import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import { runOrFail } from "../scripts/process.ts";
import { root } from "../scripts/repository.ts";
import { type Verdict, isMet } from "./goals.ts";
import type { Case, Measurements, Report } from "./measurements.ts";

/** What to know about the goals: among it what this bench cannot measure. */
const remarks = [
  "Unix sockets have no goals of their own; those of TCP are held against them.",
  "Not measured: G1 and G6 on shared memory: there is no such transport yet.",
  "Not measured: G6 beside native copies, G8 beside a native cold start: they need a GPU.",
  "Not measured: G8, what the broker adds, module bytes of a second run, 64 clients at once.",
];

export function printVerdicts(verdicts: readonly Verdict[]): void {
  process.stdout.write("\n");
  for (const verdict of verdicts) {
    const columns = [
      isMet(verdict) ? "met   " : "missed",
      verdict.goal,
      verdict.transport.padEnd(4),
      figureOf(verdict).padEnd(24),
      limitOf(verdict).padEnd(10),
      verdict.subject,
    ];
    process.stdout.write(`${columns.join("  ")}\n`);
  }
}

/** Writes docs/results/DATE-bench.md and answers its path. */
export async function writeResults(measured: Measurements, verdicts: readonly Verdict[]): Promise<string> {
  const date = new Date().toISOString().slice(0, 10);
  const folder = join(root, "docs", "results");
  const path = join(folder, `${date}-bench.md`);
  const { tcp } = measured.pooled;
  const text = [
    `# Bench, ${date}`,
    "",
    `Commit ${await commit()}. ${machine()}. Null device (kernels end at once and compute nothing).`,
    `Medians of ${tcp.rounds} rounds in which raw sockets and CUDA calls take turns; in brackets the quartiles.`,
    "",
    "```console",
    "$ npm run bench",
    "```",
    "",
    "## Goals",
    "",
    "| | | transport | what | figure | goal |",
    "|---|---|---|---|---|---|",
    ...verdicts.map(goalRow),
    "",
    ...remarks.map((sentence) => `- ${sentence}`),
    "",
    ...section("Through the pool over TCP", tcp),
    ...section("Through the pool over a Unix socket", measured.pooled.unix),
    ...section("Without a pool, raw TCP", measured.direct),
    ...costlySections(measured),
  ];
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, `${text.join("\n").trimEnd()}\n`);
  return path;
}

function costlySections({ costly }: Measurements): readonly string[] {
  if (costly === undefined) return [];
  return [
    ...section("Launches that cost the driver 2.4 µs, over TCP", costly.pooled.tcp),
    ...section("Launches that cost the driver 2.4 µs, over a Unix socket", costly.pooled.unix),
    ...section("Launches that cost the driver 2.4 µs, without a pool", costly.direct),
  ];
}

async function commit(): Promise<string> {
  const git = (words: readonly string[]) =>
    runOrFail({ command: "git", arguments: words, log: "bench-git" }).then(({ stdout }) => stdout.trim());
  const isChanged = (await git(["status", "--porcelain", "--untracked-files=no"])) !== "";
  return `${await git(["rev-parse", "--short", "HEAD"])}${isChanged ? ", with changes" : ""}`;
}

function machine(): string {
  const model = cpus()[0]?.model.trim() ?? "unknown processor";
  const gibibytes = Math.round(totalmem() / 2 ** 30);
  return `${availableParallelism()} cores of ${model}, ${gibibytes} GiB, Linux ${release()}`;
}

function goalRow(verdict: Verdict): string {
  const cells = [
    isMet(verdict) ? "met" : "**missed**",
    verdict.goal,
    verdict.transport,
    verdict.subject,
    figureOf(verdict),
    limitOf(verdict),
  ];
  return `| ${cells.join(" | ")} |`;
}

function figureOf({ figure, unit, quartiles }: Verdict): string {
  const spread = quartiles === undefined ? "" : ` (${quartiles.map(digits).join("–")})`;
  return `${digits(figure)} ${unit}${spread}`;
}

function limitOf({ kind, limit, unit }: Verdict): string {
  return `${kind === "at most" ? "≤" : "≥"} ${limit} ${unit}`;
}

function section(title: string, report: Report): readonly string[] {
  return [
    `## ${title}`,
    "",
    "| case | unit | way | median (quartiles) | ours to it |",
    "|---|---|---|---|---|",
    ...report.cases.flatMap(caseRows),
    "",
  ];
}

function caseRows({ name, unit, series, ratios }: Case): readonly string[] {
  return series.map((entry, index) => {
    const ratio = ratios.find(({ over }) => over === entry.way);
    const cells = [
      index === 0 ? name : "",
      index === 0 ? unit : "",
      entry.way,
      `${digits(entry.median)} (${digits(entry.low)}–${digits(entry.high)})`,
      ratio === undefined ? "" : `${digits(ratio.median)} (${digits(ratio.low)}–${digits(ratio.high)})`,
    ];
    return `| ${cells.join(" | ")} |`;
  });
}

function digits(value: number): string {
  return Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

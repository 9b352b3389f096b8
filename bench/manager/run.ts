import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { pause, startAgents } from "./agents.ts";
import { joinMachines, registerServers, type BenchServer } from "./machines.ts";
import { loadOfMachine, measurePairs, type Pairs } from "./pairs.ts";
import { measurePasses, type PassCost } from "./pass.ts";
import { startBenchManager, type BenchManager } from "./pool.ts";

/** `node bench/manager/run.ts [--only pairs,heartbeats,passes] [--seconds N] [--commit TEXT] [--results FILE]`: G11, as Markdown. */
const { values } = parseArgs({
  options: {
    only: { type: "string" },
    seconds: { type: "string" },
    commit: { type: "string" },
    results: { type: "string" },
  },
});
const CASES = ["pairs", "heartbeats", "passes"] as const;
const wanted = new Set(values.only?.split(",") ?? CASES);
const seconds = Number(values.seconds ?? "15");
const SMALL = { servers: 16, gpusPerServer: 8 };
const LARGE = { servers: 1_250, gpusPerServer: 8 };
const CLIENTS = 16;

interface Figure {
  readonly what: string;
  readonly figure: string;
  /** Nothing where we have set none. */
  readonly goal?: string;
  readonly isMet?: boolean;
}

const loadBefore = loadOfMachine();
const figures: Figure[] = [];
if (wanted.has("pairs")) figures.push(...(await pairs()));
if (wanted.has("heartbeats")) figures.push(...(await heartbeats()));
if (wanted.has("passes")) figures.push(...passFigures(await measurePasses(LARGE)));
const page = [
  `# The manager, ${new Date().toISOString().slice(0, 10)}`,
  "",
  `${cpus().length} × ${cpus()[0]?.model ?? "?"}, Node ${process.version}, embedded PostgreSQL with fsync, commit ${values.commit ?? "not given"}.`,
  `\`node bench/manager/run.ts ${process.argv.slice(2).join(" ")}\`; load average before: ${loadBefore}, after: ${loadOfMachine()}.`,
  "Manager, its database and what asks them share the processors.",
  "",
  "| what | figure | goal | |",
  "|---|---|---|---|",
  ...figures.map(
    ({ what, figure, goal = "", isMet }) =>
      `| ${what} | ${figure} | ${goal} | ${isMet === undefined ? "" : isMet ? "met" : "missed"} |`,
  ),
  "",
].join("\n");
console.log(page);
if (values.results !== undefined) writeFileSync(values.results, page);
process.exitCode = figures.every(({ isMet }) => isMet !== false) ? 0 : 1;

async function pairs(): Promise<Figure[]> {
  await using manager = await startBenchManager();
  await manager.client.call("setPolicy", {
    body: {
      scope: { kind: "pool", name: "" },
      fields: { gpus: { value: 8 }, maxDurationMs: { value: 86_400_000, hard: true } },
    },
  });
  const servers = await registerServers(manager, SMALL);
  const clients = await joinMachines(manager, "client", CLIENTS);
  const agents = startAgents(servers);
  try {
    await measurePairs({ clients, durationMs: 3_000 });
    const one = await measured(manager, () =>
      measurePairs({ clients: clients.slice(0, 1), durationMs: seconds * 1_000 }),
    );
    const many = await measured(manager, () => measurePairs({ clients, durationMs: seconds * 1_000 }));
    return [...pairFigures(one), ...pairFigures(many, { perSecond: 300, p99Ms: 100 })];
  } finally {
    await agents.stop();
    for (const { client } of [...servers, ...clients]) client.close();
  }
}

interface Measured extends Pairs {
  readonly managerShare: number;
  readonly databaseShare: number;
}

async function measured(manager: BenchManager, work: () => Promise<Pairs>): Promise<Measured> {
  const before = manager.processor();
  const startedAt = performance.now();
  const result = await work();
  const tookS = (performance.now() - startedAt) / 1_000;
  const after = manager.processor();
  return {
    ...result,
    managerShare: (after.manager - before.manager) / tookS,
    databaseShare: (after.database - before.database) / tookS,
  };
}

function pairFigures(
  { clients, perSecond, pair, allocate, release, managerShare, databaseShare }: Measured,
  goal?: { readonly perSecond: number; readonly p99Ms: number },
): Figure[] {
  const who = `${clients} client${clients === 1 ? "" : "s"}`;
  const share = (of: number): string => `${(of * 100).toFixed(0)} %`;
  return [
    {
      what: `allocate + grant + release, pairs per second, ${who}`,
      figure: perSecond.toFixed(0),
      ...(goal && { goal: `≥ ${goal.perSecond}`, isMet: perSecond >= goal.perSecond }),
    },
    {
      what: `one pair, p50 / p99, ${who}`,
      figure: `${pair.p50.toFixed(1)} / ${pair.p99.toFixed(1)} ms`,
      ...(goal && { goal: `p99 ≤ ${goal.p99Ms} ms`, isMet: pair.p99 <= goal.p99Ms }),
    },
    {
      what: `of that allocate; release, p50 / p99, ${who}`,
      figure: `${allocate.p50.toFixed(1)} / ${allocate.p99.toFixed(1)}; ${release.p50.toFixed(1)} / ${release.p99.toFixed(1)} ms`,
    },
    {
      what: `processor meanwhile: manager; database, ${who}`,
      figure: `${share(managerShare)}; ${share(databaseShare)} of a core`,
    },
    {
      what: `that is for each pair: manager; database, ${who}`,
      figure: `${((managerShare / perSecond) * 1_000).toFixed(1)}; ${((databaseShare / perSecond) * 1_000).toFixed(1)} ms`,
    },
  ];
}

async function heartbeats(): Promise<Figure[]> {
  await using manager = await startBenchManager();
  const servers = await registerServers(manager, LARGE);
  const agents = startAgents(servers);
  try {
    await pause(6_000);
    return await beat(manager, servers, agents);
  } finally {
    await agents.stop();
    for (const { client } of servers) client.close();
  }
}

async function beat(
  manager: BenchManager,
  servers: readonly BenchServer[],
  agents: ReturnType<typeof startAgents>,
): Promise<Figure[]> {
  agents.slowestMs();
  const [before, countBefore] = [manager.processor(), agents.heartbeats()];
  const startedAt = performance.now();
  await pause(2 * seconds * 1_000);
  const tookS = (performance.now() - startedAt) / 1_000;
  const [after, count] = [manager.processor(), agents.heartbeats() - countBefore];
  const share = (after.manager - before.manager) / tookS;
  const databaseShare = (after.database - before.database) / tookS;
  const rate = count / tookS;
  const online = (await manager.client.call("listServers", {})).servers.filter(
    ({ state }) => state === "online",
  );
  return [
    {
      what: `heartbeats of ${servers.length} servers with ${LARGE.gpusPerServer} GPUs each: processor of the manager`,
      figure: `${(share * 100).toFixed(1)} % of a core`,
      goal: "≤ 15 %",
      isMet: share <= 0.15,
    },
    {
      what: "the same: processor of its database",
      figure: `${(databaseShare * 100).toFixed(1)} % of a core`,
    },
    {
      what: "heartbeats per second; longest answer; servers online",
      figure: `${rate.toFixed(0)}; ${agents.slowestMs().toFixed(0)} ms; ${online.length}`,
    },
  ];
}

function passFigures(costs: readonly PassCost[]): Figure[] {
  return costs.map(({ name, processorMs, wallMs, rounds }) => {
    const isPass = name.startsWith("a pass");
    return {
      what: `${name}, of ${rounds}: processor of the manager; wall clock`,
      figure: `${processorMs.toFixed(1)}; ${wallMs.toFixed(1)} ms`,
      ...(isPass && { goal: "≤ 20 ms of processor", isMet: processorMs <= 20 }),
    };
  });
}

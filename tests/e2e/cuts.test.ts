import { existsSync, mkdtempSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { CuttingProxy, RandomCutsOptions } from "@farpool/testkit";
import { afterAll, beforeAll, expect, it } from "vitest";
import { programs } from "./kit/example-programs.ts";
import { example, runDirectly } from "./kit/pool.ts";
import { type ProxiedPool, startProxiedPool } from "./kit/proxied-pool.ts";
import { waitFor } from "./kit/program.ts";
import { within } from "./kit/within.ts";

/** Another one is another sequence of cuts. What fails names it. */
const SEED = Number(process.env["FARPOOL_CUTS_SEED"] ?? 20_261_130);

/** All of them take a quarter of an hour. These move much and little, wait, ask, call back, and use both lanes. */
const USUAL =
  "vector-add,async-copy,event-polling,host-function,launch-queue,large-allocations,stream-overlap";

/** `all`, or some by name. */
const wanted = process.env["FARPOOL_CUTS_PROGRAMS"] ?? USUAL;
const chosen = wanted === "all" ? programs : programs.filter((name) => wanted.split(",").includes(name));

/** A silent line is given up after half of it. */
const GRACE = "5s";

/** Programs run at the same time, each in a pool of its own: silence is mostly waiting. */
const GROUPS = 6;

/** out-of-memory fills the GPU: a small one is sooner full. */
const simulation = { FARPOOL_SIMGPU_MEMORY: "512MiB" };

/** Both ends, or the client's, see these at once. */
const FAST = ["reset", "reset-client", "finish", "finish-client", "blackhole"] as const;
/** The client sees nothing and has to find out. */
const SLOW = ["silence", "reset-target", "finish-target"] as const;

/** For one step of a program's cuts. */
const PATIENCE_MS = 120_000;

/** Between two cuts on average: a connection begins with some 3,000, and most are to get further. */
const LEAST_BYTES = 4_000;

const ONE_LANE = 50;
const BOTH_LANES = 52;
const ATTACHES = 8;
const ATTACH_MS = 5_000;

interface Run {
  readonly status: string;
  readonly stdout: string;
  readonly stderr: string;
}

interface Outcome {
  readonly cuts: number;
  readonly runs: readonly Run[];
}

const started: ProxiedPool[] = [];
const outcomes = new Map<string, Promise<Outcome>>();

beforeAll(() => {
  const groups = Array.from({ length: GROUPS }, (_, group) =>
    chosen.filter((_, index) => index % GROUPS === group),
  );
  for (const names of groups) {
    let before: Promise<unknown> = startProxiedPool({
      grace: GRACE,
      simulation,
      addresses: names.length + 1,
    }).then((pool) => started.push(pool) && pool);
    const starting = before as Promise<ProxiedPool>;
    for (const [place, name] of names.entries()) {
      const outcome = before.catch(() => undefined).then(async () => underCuts(name, await starting, place));
      outcome.catch(() => undefined);
      outcomes.set(name, outcome);
      before = outcome;
    }
  }
});
afterAll(async () => {
  for (const pool of started) await pool.stop();
});

it.each(chosen)("%s says the same under a hundred cuts", { timeout: 400_000 }, async (name) => {
  const outcome = await outcomes.get(name);
  const direct = await runDirectly([example(name)], 1, simulation);

  const expected = { status: "0", stdout: direct.stdout, stderr: "" };
  for (const [number, run] of (outcome?.runs ?? []).entries()) {
    expect(run, `run ${number}, FARPOOL_CUTS_SEED=${SEED}`).toEqual(expected);
  }
  expect(outcome?.cuts).toBeGreaterThanOrEqual(100);
});

/** Runs a program again and again until all cuts have happened. Its address changes once meanwhile. */
async function underCuts(name: string, proxied: ProxiedPool, place: number): Promise<Outcome> {
  const { pool, proxies } = proxied;
  const [first, second] = [proxies[place], proxies[place + 1]];
  if (first === undefined || second === undefined) throw new Error(`no address for ${name}`);
  const folder = mkdtempSync(join(pool.folder, "cuts-"));
  const script = `n=0
  while [ ! -e stop ]; do
    timeout 100 "$1" > $n.stdout 2> $n.stderr
    echo $? > $n.status
    n=$((n + 1))
    # Memory is free again when the worker has ended, a moment after its program; some programs count it.
    sleep 0.3
  done`;
  const words = ["run", "-n", "1", "--", "sh", "-c", script, "sh", example(name)];
  const { environment } = proxied;
  // The program before has been here after its address had changed.
  const bytesBefore = bytesThrough(first);
  const ended = pool.farpool(words, { environment, folder });
  const runs = (): number => readdirSync(folder).filter((file) => file.endsWith(".status")).length;
  let [cuts, hasMoved] = [0, false];
  try {
    const seed = SEED + programs.indexOf(name) * 1_000;
    await waitFor(`a first run of ${name}`, () => runs() > 0 || undefined, 100_000);
    const everyBytes = Math.max(LEAST_BYTES, Math.floor((bytesThrough(first) - bytesBefore) / 25));
    const random = (proxy: CuttingProxy, options: Pick<RandomCutsOptions, "seed" | "count" | "hits">) =>
      until(proxy, { ...options, kinds: FAST, everyBytes, blackholeMs: [5, 100] });
    cuts += await random(first, { seed, count: ONE_LANE, hits: "one" });
    for (let attach = 0; attach < ATTACHES; attach += 1) {
      const kind = attach % 2 === 0 ? "reset" : "finish";
      const cut = first.cutAttach({ bytes: 1 + ((seed + attach * 397) % 1_500), kind });
      // Whoever is connected is not attaching.
      if (attach % 4 === 0) first.cut("reset");
      // A connection that ends before is none that could be cut.
      const happened = await Promise.race([cut.then(() => true), sleep(ATTACH_MS, false)]);
      if (happened) cuts += 1;
    }
    for (const kind of SLOW) {
      const lane = await waitFor("a connection that is in use", () =>
        first.connections.findLast(({ isOpen, forwardedBytes }) => isOpen && forwardedBytes.down > 2_500),
      );
      cuts += first.cut(kind, { lane: lane.lane });
      const connections = first.connections.length;
      await waitFor("another one", () => first.connections.length > connections || undefined, 60_000);
    }
    await first.move();
    hasMoved = true;
    cuts += 1;
    const bytesPerSecond = Math.max(400_000, everyBytes * 25);
    second.shape({ bytesPerSecond, delayMs: 1, bufferBytes: 16_384 });
    cuts += await random(second, { seed: seed + 1, count: BOTH_LANES, hits: "all" });
    second.shape();
  } finally {
    writeFileSync(join(folder, "stop"), "");
    // The next program is to find its own address.
    if (!hasMoved) await first.move();
    await within(`the end of ${name}`, ended, PATIENCE_MS);
  }
  const read = (file: string): string => readFileSync(join(folder, file), "utf8");
  const results = Array.from({ length: runs() }, (_, number) => ({
    status: read(`${number}.status`).trim(),
    stdout: read(`${number}.stdout`),
    stderr: existsSync(join(folder, `${number}.stderr`)) ? read(`${number}.stderr`) : "",
  }));
  return { cuts, runs: results };
}

async function until(proxy: CuttingProxy, options: RandomCutsOptions): Promise<number> {
  const cuts = proxy.randomCuts(options);
  try {
    await within(`${options.count} cuts with the seed ${options.seed}`, cuts.over, PATIENCE_MS);
  } finally {
    cuts.stop();
  }
  return cuts.happened.length;
}

function bytesThrough({ connections }: CuttingProxy): number {
  return connections.reduce((sum, { forwardedBytes }) => sum + forwardedBytes.up + forwardedBytes.down, 0);
}

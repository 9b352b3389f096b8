import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { startDemoPool } from "../scripts/demo/pool.ts";
import { runOrFail } from "../scripts/process.ts";
import { SetupFailed, step } from "../scripts/progress.ts";
import { dist, farpool, library, logs, root } from "../scripts/repository.ts";
import { judge } from "./goals.ts";
import type { Idle, Measurements, Report, Tls, Transport } from "./measurements.ts";
import { workerSeconds } from "./processor.ts";
import { printVerdicts, writeResults } from "./results.ts";
import { measureTls } from "./tls.ts";

export interface BenchOptions {
  readonly isSmoke: boolean;
  readonly rounds: string | undefined;
  /** Only cases whose names hold one of these words, separated by commas. */
  readonly only: string | undefined;
}

interface BenchPool {
  readonly folder: string;
  readonly launchNanoseconds: string;
}

/** Connections in clear: for comparisons with raw sockets. */
const plainTcp = ["--plain-tcp"];

const program = join(dist, "bin", "farpool-bench");
/** Keeps devices without a pool apart from those of other people. */
const directState = join(logs, "bench-simgpu");
/** What a launch costs its caller on a real driver. */
const launchNanoseconds = "2400";

/** Measures Farpool against raw sockets and against the bare null device, and holds it against the goals. */
export async function runBench(options: BenchOptions): Promise<void> {
  const measured = await measure(options);
  const verdicts = judge(measured);
  printVerdicts(verdicts);
  // A part of the cases is no record of a day.
  if (!options.isSmoke && options.only === undefined) {
    const path = await writeResults(measured, verdicts);
    process.stdout.write(`\nwritten: ${relative(root, path)}\n`);
  }
}

async function measure(options: BenchOptions): Promise<Measurements> {
  const words = wordsOf(options);
  const free = await withPool("0", plainTcp, async (pool) => ({
    pooled: {
      tcp: await step("through the pool over TCP", () => pooledReport(pool, "tcp", words)),
      unix: await step("through the pool over a Unix socket", () => pooledReport(pool, "unix", words)),
    },
    idle: await step("an idle session", () => measureIdle(pool, options.isSmoke ? 0.5 : 5)),
  }));
  const direct = await step("without a pool", () => directReport("0", words));
  if (options.isSmoke) return { ...free, direct };
  const launches = wordsOf({ ...options, only: options.only ?? "launch" });
  const tls = await step("with TLS, without it, and OpenSSL", () => compareTls(options));
  const costly = await withPool(launchNanoseconds, plainTcp, async (pool) => ({
    pooled: {
      tcp: await step("launches of 2.4 µs over TCP", () => pooledReport(pool, "tcp", launches)),
      unix: await step("launches of 2.4 µs over a Unix socket", () => pooledReport(pool, "unix", launches)),
    },
    direct: await step("launches of 2.4 µs without a pool", () => directReport(launchNanoseconds, launches)),
  }));
  return { ...free, direct, tls, costly };
}

function wordsOf({ isSmoke, rounds, only }: BenchOptions): readonly string[] {
  return [
    ...(isSmoke ? ["--smoke"] : []),
    ...(rounds === undefined ? [] : ["--rounds", rounds]),
    ...(only === undefined ? [] : ["--only", only]),
  ];
}

async function compareTls({ rounds }: BenchOptions): Promise<Tls> {
  return await withPool("0", plainTcp, async (plain) =>
    withPool("0", [], async (tls) =>
      measureTls({
        rounds: rounds === undefined ? 15 : Number(rounds),
        identity: join(tls.folder, "worker-identity.pem"),
        plain: (words) => pooledReport(plain, "tcp", words),
        tls: (words) => pooledReport(tls, "tcp", words),
      }),
    ),
  );
}

async function withPool<T>(
  launchNs: string,
  words: readonly string[],
  body: (pool: BenchPool) => Promise<T>,
): Promise<T> {
  await using pool = await startDemoPool({
    name: "bench",
    words: ["--simulated", ...words],
    environment: nullDevice(launchNs),
  });
  return await body({ folder: pool.folder, launchNanoseconds: launchNs });
}

function nullDevice(launchNs: string) {
  return { FARPOOL_SIMGPU_NULL: "1", FARPOOL_SIMGPU_LAUNCH_NS: launchNs, FARPOOL_SIMGPU_KERNEL_NS: "0" };
}

function pooledReport(pool: BenchPool, transport: Transport, words: readonly string[]): Promise<Report> {
  const launchNs = pool.launchNanoseconds;
  return report({
    name: `bench-${transport}-${launchNs}`,
    command: [
      ...([farpool, "run", "-n", "1", "--", program, "--raw", transport] as const),
      ...["--direct", dirname(library.simgpu), ...words],
    ],
    environment: {
      ...poolEnvironment(pool, transport),
      // For the launches without a pool that take turns with those through it.
      ...nullDevice(launchNs),
      FARPOOL_SIMGPU_STATE: directState,
    },
  });
}

function directReport(launchNs: string, words: readonly string[]): Promise<Report> {
  return report({
    name: `bench-direct-${launchNs}`,
    command: [program, ...words],
    environment: {
      ...nullDevice(launchNs),
      LD_LIBRARY_PATH: dirname(library.simgpu),
      FARPOOL_SIMGPU_STATE: directState,
    },
  });
}

interface Measurement {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
  readonly environment: Readonly<Record<string, string>>;
}

/** Runs farpool-bench and reads what it wrote. */
async function report({ name, command: [first, ...rest], environment }: Measurement): Promise<Report> {
  mkdirSync(logs, { recursive: true });
  const path = join(logs, `${name}.json`);
  const { stdout } = await runOrFail({
    command: first,
    arguments: [...rest, "--json", path],
    environment,
    log: name,
  });
  process.stdout.write(`\n${name}\n${stdout}`);
  return JSON.parse(readFileSync(path, "utf8")) as Report;
}

/** The share of a core that an attached process and its worker use while nothing is asked of them. */
async function measureIdle(pool: BenchPool, seconds: number): Promise<Idle> {
  const words = ["run", "-n", "1", "--", program, "idle", String(seconds)];
  const environment = { ...process.env, ...poolEnvironment(pool, "tcp") };
  const child = spawn(farpool, words, { cwd: root, env: environment, stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  let client: number | undefined;
  let worker: number | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === "idle") {
      const before = workerSeconds(pool.folder);
      await new Promise((resolve) => setTimeout(resolve, seconds * 800));
      worker = (workerSeconds(pool.folder) - before) / (seconds * 0.8);
    }
    const share = /^client (.+)$/.exec(line)?.[1];
    if (share !== undefined) client = Number(share);
  }
  await ended;
  if (client === undefined || worker === undefined) {
    throw new SetupFailed("farpool-bench idle ended early", "its errors are above");
  }
  return { client, worker };
}

function poolEnvironment(pool: BenchPool, transport: Transport): Readonly<Record<string, string>> {
  return {
    FARPOOL_STATE: pool.folder,
    FARPOOL_RUNTIME: join(pool.folder, "run"),
    FARPOOL_TRANSPORT: transport,
  };
}

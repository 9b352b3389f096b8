import type { Machine } from "../machine.ts";
import { example } from "../pool.ts";
import type { ProgramResult, RunningProgram } from "../program.ts";
import type { Random } from "./random.ts";

/** Real programs that check their own results; each says the same in every run. */
const PROGRAMS: readonly Program[] = [
  { words: ["vector-add"], gpus: 1 },
  { words: ["busy", "30", "16", "20"], gpus: 1 },
  { words: ["busy", "15", "64", "100"], gpus: 1 },
  { words: ["reduction"], gpus: 1 },
  { words: ["async-copy"], gpus: 1 },
  { words: ["graph-capture"], gpus: 1 },
  { words: ["memory-reuse"], gpus: 1 },
  { words: ["stream-overlap"], gpus: 1 },
  { words: ["two-gpu-relay"], gpus: 2 },
  // No server has three.
  { words: ["several-gpus"], gpus: 3, options: ["--spread-servers"] },
];

interface Program {
  readonly words: readonly string[];
  readonly gpus: number;
  readonly options?: readonly string[];
}

/** One `farpool run`, or one program attached to a reserved session. */
export interface Job {
  readonly run: RunningProgram;
  /** The program as a person would type it. */
  readonly program: string;
  readonly expected: string;
  /** Once `run` has said it. */
  readonly session: () => string | undefined;
  /** Who of it was killed by the test: it may fail, or not. */
  hurt: string | undefined;
}

export interface Tally {
  passed: number;
  /** Of those of whom somebody was killed. */
  hurt: number;
  hurtAndPassed: number;
  /** No program was started, by what `run` said of it. */
  readonly notStarted: Record<string, number>;
  reserved: number;
  readonly failures: string[];
}

export interface Load {
  readonly jobs: ReadonlySet<Job>;
  /** Sessions of which a worker was killed. */
  readonly hurtSessions: Set<string>;
  readonly tally: Tally;
  /** No new jobs; those there are end by themselves. */
  stop(): Promise<void>;
}

export interface LoadWish {
  readonly clients: readonly Machine[];
  readonly random: Random;
  /** What each program prints where there is no pool. */
  readonly direct: (words: readonly string[], gpus: number) => Promise<string>;
  /** How many on each client are at work at a time. */
  readonly each: number;
}

export function startLoad({ clients, random, direct, each }: LoadWish): Load {
  const jobs = new Set<Job>();
  const hurtSessions = new Set<string>();
  const tally: Tally = { passed: 0, hurt: 0, hurtAndPassed: 0, notStarted: {}, reserved: 0, failures: [] };
  let isStopping = false;

  async function work(client: Machine): Promise<void> {
    while (!isStopping) {
      const { words, gpus, options: more = [] } = random.pick(PROGRAMS);
      const size = random.pick([[], ["-p", "0.5"], ["-p", "0.25"], ["-m", "1024"]]);
      const transport = random.pick(["tcp", "tcp", "unix"]);
      const isReserved = random.chance(0.1);
      const expected = await direct(words, gpus);
      const [name = "", ...rest] = words;
      const command = ["--", example(name), ...rest];
      // What libcuda.so.1 has to say of a failure is in the report of it.
      const environment = { FARPOOL_TRANSPORT: transport, FARPOOL_LOG: "stderr" };
      const options = ["-n", String(gpus), ...size, ...more];
      if (!isReserved) {
        await perform(client.launch(["run", "-v", ...options, ...command], { environment }), words, expected);
        continue;
      }
      const reserved = await client.farpool(["reserve", ...options, "--auto-release", "5s"]);
      if (reserved.status !== 0) {
        judgeRefusal("reserve", reserved);
        continue;
      }
      tally.reserved += 1;
      const id = reserved.stdout.trim();
      await perform(client.launch(["attach", "-v", id, ...command], { environment }), words, expected);
      // When no manager answers it is released by itself.
      await client.farpool(["release", id]);
    }
  }

  async function perform(run: RunningProgram, words: readonly string[], expected: string): Promise<void> {
    const session = (): string | undefined => /session (s-\w{8})/.exec(run.stderr())?.[1];
    const job: Job = { run, program: words.join(" "), expected, session, hurt: undefined };
    jobs.add(job);
    const result = await run.ended;
    jobs.delete(job);
    judge(job, result);
  }

  function judge({ program, expected, hurt, session }: Job, result: ProgramResult): void {
    const isRight = result.status === 0 && result.stdout === expected;
    if (hurt !== undefined || hurtSessions.has(session() ?? "")) {
      tally.hurt += 1;
      if (isRight) tally.hurtAndPassed += 1;
      // Whatever happened to it: who says that it passed has the right result.
      if (result.status === 0 && !isRight)
        fail(program, result, `${hurt ?? "its worker was killed"}, and yet the exit code is 0`);
    } else if (isRight) tally.passed += 1;
    else judgeRefusal(program, result);
  }

  /** Who got no GPUs has started no program; on a machine that is too busy that happens without anybody's fault. */
  function judgeRefusal(program: string, result: ProgramResult): void {
    const why = [
      /did not answer within \d+ s/,
      /cannot be reached|nobody answers at/,
      /session s-\w{8} has ended/,
    ].find((each) => each.test(result.stderr));
    const hasStarted = / × .* session s-\w{8}/.test(result.stderr);
    if (result.status !== 69 || result.stdout !== "" || hasStarted || why === undefined)
      return fail(program, result, "nobody of it was killed");
    tally.notStarted[why.source] = (tally.notStarted[why.source] ?? 0) + 1;
  }

  function fail(program: string, { status, stdout, stderr }: ProgramResult, why: string): void {
    tally.failures.push(
      `${program} (${why}): code ${status}\n${stdout.slice(-500)}\n${stderr.slice(-1_500)}`,
    );
  }

  const workers = clients.flatMap((client) => Array.from({ length: each }, () => work(client)));
  return {
    jobs,
    hurtSessions,
    tally,
    async stop() {
      isStopping = true;
      await Promise.all(workers);
    },
  };
}
